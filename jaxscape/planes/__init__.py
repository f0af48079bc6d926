"""Planes and directions through the parameters of a model."""

"""Modules that all packages use: argument checks, pytrees, equations, files, devices."""

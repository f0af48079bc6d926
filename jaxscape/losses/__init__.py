"""Losses: pointwise ones, the two-weight network, and checks of a user's own loss."""

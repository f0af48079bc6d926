"""Losses: pointwise losses, the two-weight network, and checks of a user's own loss."""

"""All critical points of the two-weight network with squared error."""

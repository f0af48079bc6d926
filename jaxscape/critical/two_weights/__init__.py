"""Every critical point of the two-weight network with squared error."""

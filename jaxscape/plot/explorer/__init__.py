"""The explorer: one page on which a reader trains the two-weight network."""

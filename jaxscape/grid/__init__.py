"""The loss on a whole grid: which strategy computes it, in which blocks, and where it goes."""

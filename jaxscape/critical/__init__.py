"""Find critical points, classify them, and prove that they are all."""

"""What every package needs: JAX's equations, pytrees, checks, files, devices, progress."""

"""Benchmarks of the library against other implementations: `python -m benchmarks.article`."""

"""What the library's speed is measured against, and how: `python -m benchmarks.article`."""

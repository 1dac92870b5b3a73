"""Speed and quality beside the specialists: `python -m benchmarks.run`. See README.md for the method."""

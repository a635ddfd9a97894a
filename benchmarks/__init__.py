"""Measurements of what must stay cheap; run by `python -m benchmarks`."""

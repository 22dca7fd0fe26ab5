"""The benchmarks behind `scripts/bench.py`, one a file."""

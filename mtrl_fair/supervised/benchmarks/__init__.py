"""The supervised benchmarks, and what they are made of."""

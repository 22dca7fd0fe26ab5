"""The supervised benchmarks, one file each."""

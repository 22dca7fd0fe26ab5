"""The supervised benchmarks, one file each; folders hold their parts."""

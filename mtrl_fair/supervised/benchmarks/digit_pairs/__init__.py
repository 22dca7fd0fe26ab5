"""Parts of the benchmarks with two overlaid digits."""

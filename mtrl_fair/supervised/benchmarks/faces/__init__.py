"""Parts of the benchmark on attributes of faces."""

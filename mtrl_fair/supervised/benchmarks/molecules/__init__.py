"""Parts of the benchmark on properties of molecules; they need torch_geometric."""

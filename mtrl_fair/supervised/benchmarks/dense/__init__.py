"""Parts of the benchmarks of dense prediction: segmentation, depth and surface normals."""

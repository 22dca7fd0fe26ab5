"""Dense prediction on images: segmentation, depth and surface normals."""

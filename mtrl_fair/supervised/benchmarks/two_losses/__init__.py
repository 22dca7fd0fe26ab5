"""The toy problem of two losses in the plane."""

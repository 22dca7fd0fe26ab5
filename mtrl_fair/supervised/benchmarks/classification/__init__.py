"""What benchmarks of classification share."""

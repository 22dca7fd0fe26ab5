"""What training runs left behind, read back: results, statistics, tables and figures."""

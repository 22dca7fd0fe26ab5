"""What training runs left behind, read back: results, statistics, tables, figures and copies."""

"""Two overlaid digits to be recognised at once."""

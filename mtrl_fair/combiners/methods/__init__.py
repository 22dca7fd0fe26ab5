"""The methods, one a file, each named as in `mtrl_fair.COMBINERS`."""

"""The methods, one a file, each named as in `mtrl_fair.COMBINERS`.

`min_norm` and `loss_bound` hold what two of them share.
"""

"""Solvers of equation 4, the fairness equation of FairGrad."""

from mtrl_fair.solvers.equation import SOLVERS, check_alpha, fairgrad_residual, fairgrad_weights

__all__ = ["SOLVERS", "check_alpha", "fairgrad_residual", "fairgrad_weights"]

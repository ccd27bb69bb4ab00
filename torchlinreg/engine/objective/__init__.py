"""Losses, penalties and linear models, and the objective of them: value, gradient, Hessian, prox.

Imports: preconditioning, data, runtime.
"""

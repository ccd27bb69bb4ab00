"""Compares and merges estimators, estimates intervals of their coefficients, evaluates objectives around these.

Imports: estimators, inputs, engine.
"""

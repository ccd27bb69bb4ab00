"""Compares and merges estimators, and estimates confidence intervals of their coefficients.

Imports: estimators, inputs, engine.
"""

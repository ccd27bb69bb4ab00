"""The scikit-learn estimators.

Imports: inputs, engine.
"""

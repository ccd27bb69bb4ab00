"""What is done with estimators: tables that compare them, confidence intervals of their coefficients.

Imports: estimators, inputs, engine.
"""

"""The two ways of fitting, textbook and untuned, put together.

Imports: optimality, solvers, objective, preconditioning, data, runtime.
"""

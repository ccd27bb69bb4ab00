"""How far an answer is from the optimum: a certified duality gap, and what rounding adds.

Imports: solvers, objective, preconditioning, data.
"""

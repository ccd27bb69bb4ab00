"""How far an answer is from the optimum: a certified duality gap, what rounding adds, and how to take it back.

Imports: solvers, objective, preconditioning, data.
"""

"""Many models at once, a column each: grids, resamples, paths of penalties.

Imports: fit, solvers, objective, preconditioning, data, runtime.
"""

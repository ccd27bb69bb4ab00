"""From an objective to its minimum; no solver knows a concrete loss, penalty or source.

Imports: objective, preconditioning.
"""

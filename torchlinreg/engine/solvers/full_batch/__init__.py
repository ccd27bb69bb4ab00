"""Solvers whose steps see all rows."""

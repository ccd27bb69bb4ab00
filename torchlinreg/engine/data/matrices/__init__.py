"""Matrices of rows, dense or sparse: products with them, and some of their rows.

Imports: runtime.
"""

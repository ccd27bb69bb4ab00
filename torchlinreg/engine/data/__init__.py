"""The rows: read them in blocks, multiply by them, reduce them.

Imports: runtime.
"""

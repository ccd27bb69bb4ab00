"""Validates the user's objects and converts them to tensors: arrays, frames, coefficients, files.

Imports: engine.
"""

"""The user's objects, checked and made into tensors: arrays, frames, coefficients, files.

Imports: engine.
"""

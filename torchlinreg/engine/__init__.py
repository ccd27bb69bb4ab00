"""Training, on torch, NumPy and SciPy only."""

"""Training, by torch, NumPy and SciPy only; each folder imports only those before it in `ORDER`."""

"""The engine: knows torch, and nothing of scikit-learn."""

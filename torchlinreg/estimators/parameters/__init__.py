"""What the parameters of an estimator mean: constraints, what does not go together, the settings of the engine."""

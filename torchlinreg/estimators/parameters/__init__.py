"""The parameters of both estimators: constraints and documentation, conflicts, the engine's settings made of them."""

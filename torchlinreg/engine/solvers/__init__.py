"""From an objective to iterates; no solver knows a concrete loss, penalty or source."""

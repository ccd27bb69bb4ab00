"""Linear changes of variables in which the loss is well conditioned, found from a sketch of the rows."""

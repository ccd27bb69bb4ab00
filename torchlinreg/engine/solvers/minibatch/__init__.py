"""Mini-batch gradient descent: the loop, optimizers, schedules, stopping."""

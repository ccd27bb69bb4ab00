"""The objective: losses, penalties and linear models, their values, gradients and Hessians."""

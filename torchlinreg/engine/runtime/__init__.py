"""Where training runs, device, precision, threads, torch's switches; and what of it survives: checkpoints."""

"""Where training runs: device, precision, threads, torch's switches."""

"""Where it runs: device, precision, threads, torch's switches."""

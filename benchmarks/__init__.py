"""Speed as ratios against peers, measured side by side: ``python -m benchmarks``."""

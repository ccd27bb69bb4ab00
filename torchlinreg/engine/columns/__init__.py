"""Many models at once, a column each: grids, resamples, paths."""

"""Rows that are read chunk by chunk, by one process or by several together."""

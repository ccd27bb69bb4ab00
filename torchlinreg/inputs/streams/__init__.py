"""Tables that are read chunk by chunk: Parquet and CSV files, and whatever can be sliced."""

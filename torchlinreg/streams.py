"""Tables that are read chunk by chunk, for ``fit_chunks``: Parquet and CSV files, and whatever can be sliced."""

from torchlinreg.inputs.streams.arrays import ArrayChunks, array_chunks
from torchlinreg.inputs.streams.csv import CSVChunks, csv_chunks
from torchlinreg.inputs.streams.parquet import ParquetChunks, parquet_chunks

__all__ = ["ArrayChunks", "CSVChunks", "ParquetChunks", "array_chunks", "csv_chunks", "parquet_chunks"]

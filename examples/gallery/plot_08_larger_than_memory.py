"""
A table larger than memory
==========================

``fit_chunks`` reads a Parquet file a row group at a time, and gives the answer of ``fit``. Its memory does not grow
with the file: it keeps a few chunks, and the sums over all of them.
"""

import tempfile
import tracemalloc

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from torchlinreg import TorchLinearRegressor
from torchlinreg.streams import parquet_chunks

rng = np.random.default_rng(0)
sizes, peaks = [50_000, 100_000, 200_000], {"fit": [], "fit_chunks": []}
with tempfile.TemporaryDirectory() as folder:
    file = f"{folder}/table.parquet"
    for n_rows in sizes:
        table = pd.DataFrame(rng.normal(size=(n_rows, 10))).add_prefix("x").assign(y=rng.normal(size=n_rows))
        table.to_parquet(file, row_group_size=10_000)
        for method, peak in peaks.items():
            tracemalloc.start()
            if method == "fit":
                TorchLinearRegressor().fit(*np.split(pd.read_parquet(file).to_numpy(), [-1], axis=1))
            else:
                TorchLinearRegressor().fit_chunks(parquet_chunks(file, "y", chunk_rows=10_000))
            peak.append(tracemalloc.get_traced_memory()[1] / 1e6)
            tracemalloc.stop()

figure, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
ax.plot(sizes, peaks["fit"], "o-", color="tab:red", label="fit")
ax.plot(sizes, peaks["fit_chunks"], "s-", color="tab:blue", label="fit_chunks")
ax.set(xlabel="rows", ylabel="MB of arrays at most", ylim=0)
ax.legend()

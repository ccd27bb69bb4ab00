"""One process with one thread beside two of them, on the same chunks in memory; the bits of the answers are compared.

1e6×100 float64 in 50 chunks, condition number 1e4. All processes hold the table; each sums up its share of the chunks,
and one collective operation tells the sums to all. The processes are there before, as under torchrun: what is measured
is `fit_chunks`, in turns.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from benchmarks.reference import Size
from benchmarks.timing import markdown_table

TABLE, N_CHUNKS, ROUNDS = Size(1_000_000, 100, "correlated"), 50, 5
QUICK_SHARE = 50
TARGET = 0.6


def report(*, quick: bool = False) -> str:
    """Run the benchmark and describe it in Markdown.

    Parameters
    ----------
    quick : bool, default=False
        Whether to shrink the table: to see that it runs, not to learn from it.
    """
    n_rows, rounds = (TABLE.n_rows // QUICK_SHARE, 1) if quick else (TABLE.n_rows, ROUNDS)
    context = mp.get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        arguments = str(Path(folder) / "store"), n_rows, rounds, theirs
        started = mp.spawn(work, arguments, nprocs=2, join=False)
        alone, together, same = ours.recv()
        started.join()
    ratio = median(two / one for one, two in zip(alone, together, strict=True))
    verdict = f"≤ {TARGET}", "yes" if ratio <= TARGET else "**no**", "yes" if same else "**no**"
    row = (f"{median(alone):.2f} s", f"{median(together):.2f} s", f"{ratio:.2f}", *verdict)
    header = ("one process", "two processes", "ratio", "target", "met", "same bits")
    return "\n\n".join([__doc__.partition("\n")[2].strip(), markdown_table(header, [row])])


def work(rank: int, store: str, n_rows: int, rounds: int, answers) -> None:
    """Fit alone and together, in turns; the first process tells the times."""
    from torchlinreg import TorchLinearRegressor  # noqa: PLC0415 - in the process that needs it

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    X, y = Size(n_rows, TABLE.n_features, TABLE.kind).make("float64")
    chunks = list(zip(np.array_split(X, N_CHUNKS), np.array_split(y, N_CHUNKS), strict=True))
    model, alone, together = TorchLinearRegressor(), [], []
    for _ in range(rounds + 1):
        dist.barrier()
        if rank == 0:  # while the other waits
            began = time.perf_counter()
            coef = model.fit_chunks(chunks).coef_
            alone.append(time.perf_counter() - began)
        dist.barrier()
        began = time.perf_counter()
        model.fit_chunks(chunks, process_group=dist.group.WORLD)
        together.append(time.perf_counter() - began)
    if rank == 0:
        answers.send((alone[1:], together[1:], np.array_equal(coef, model.coef_)))
    dist.destroy_process_group()

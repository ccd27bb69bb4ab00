"""Fit in two processes under torchrun: to Parquet files that are dealt out, and to rows that each process has already.

python examples/scaling/torchrun_fit.py                                       # makes files, and starts torchrun on them
torchrun --standalone --nproc-per-node 2 examples/scaling/torchrun_fit.py *.parquet          # with a column "target"
"""

import os
import sys
import tempfile

import numpy as np
import pandas as pd
import torch.distributed as dist
from torch.distributed.run import main as torchrun

from torchlinreg import TorchLinearRegressor
from torchlinreg.streams import parquet_chunks


def make_file(path, seed):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(rng.normal(1.0, [1.0, 10.0, 0.1, 1000.0], size=(5_000, 4)), columns=["a", "b", "c", "d"])
    table.assign(target=table @ [1.0, 0.2, -30.0, 0.004] + 5.0 + rng.normal(size=5_000)).to_parquet(path)
    return path


def main(paths):
    dist.init_process_group("gloo")  # "nccl" with a GPU for each process
    group, rank, size = dist.group.WORLD, dist.get_rank(), dist.get_world_size()

    # The same sequence of chunks in all processes, of which each reads its share
    chunks = parquet_chunks(paths, target="target")
    dealt = TorchLinearRegressor().fit_chunks(chunks, process_group=group)

    # Or rows that are in one process each
    own = pd.concat(map(pd.read_parquet, paths[rank::size]))
    robust = TorchLinearRegressor(loss="huber")
    robust.fit(own.drop(columns="target"), own["target"], process_group=group)

    table = pd.concat(map(pd.read_parquet, paths))
    X, y = table.drop(columns="target"), table["target"]
    for name, model in (("fit_chunks", dealt), ("fit", robust)):
        whole = TorchLinearRegressor(loss=model.loss).fit(X, y)
        difference = np.abs(model.predict(X) - whole.predict(X)).max() / y.std()
        if rank == 0:
            print(f"{name}, {model.loss}: predictions differ from one fit by {difference:.1e} of the target's spread")
        assert difference < 1e-6
    dist.destroy_process_group()


if __name__ == "__main__":
    if "RANK" in os.environ:
        main(sys.argv[1:])
    else:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        with tempfile.TemporaryDirectory() as folder:
            files = [make_file(f"{folder}/{number}.parquet", number) for number in range(8)]
            torchrun(["--standalone", "--nproc-per-node", "2", __file__, *files])

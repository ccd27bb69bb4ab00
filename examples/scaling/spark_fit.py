"""Fit to a Spark frame: map partitions to models and merge these, or train in a process group with any loss."""

import os
import pickle
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch.distributed as dist
from pyspark.ml.torch.distributor import TorchDistributor
from pyspark.sql import SparkSession

from torchlinreg import TorchLinearRegressor, merge


def make_rows(batches):
    for seed in (seed for batch in batches for seed in batch["id"].to_pylist()):
        rng = np.random.default_rng(seed)
        table = pd.DataFrame(rng.normal(1.0, [1.0, 10.0, 0.1, 1000.0], size=(5_000, 4)), columns=["a", "b", "c", "d"])
        table["y"] = table @ [1.0, 0.2, -30.0, 0.004] + 5.0 + rng.normal(size=len(table))
        yield pa.RecordBatch.from_pandas(table)


def learn(batches):
    model = TorchLinearRegressor()
    for table in (batch.to_pandas() for batch in batches):
        model.partial_fit(table.drop(columns="y"), table["y"])
    yield pa.RecordBatch.from_pydict({"model": [pickle.dumps(model)]})


def train(folder):
    dist.init_process_group("gloo")  # "nccl" with a GPU for each process
    own = sorted(Path(folder).glob("*.parquet"))[dist.get_rank() :: dist.get_world_size()]
    table = pd.concat(map(pd.read_parquet, own))
    model = TorchLinearRegressor(loss="huber")
    return model.fit(table.drop(columns="y"), table["y"], process_group=dist.group.WORLD)


def main():
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = SparkSession.builder.master("local[2]").getOrCreate()
    rows = spark.range(8, numPartitions=8).mapInArrow(make_rows, "a double, b double, c double, d double, y double")
    merged = merge(pickle.loads(row.model) for row in rows.mapInArrow(learn, "model binary").collect())
    with tempfile.TemporaryDirectory() as folder:
        rows.write.mode("overwrite").parquet(folder)
        robust = TorchDistributor(num_processes=2, local_mode=True, use_gpu=False).run(train, folder)
    table = rows.toPandas()
    X, y = table.drop(columns="y"), table["y"]
    for name, model in (("mapInArrow and merge", merged), ("TorchDistributor", robust)):
        whole = TorchLinearRegressor(loss=model.loss).fit(X, y)
        difference = np.abs(model.predict(X) - whole.predict(X)).max() / y.std()
        print(f"{name}, {model.loss}: predictions differ from one fit by {difference:.1e} of the target's spread")
        assert difference < 1e-6


if __name__ == "__main__":
    main()

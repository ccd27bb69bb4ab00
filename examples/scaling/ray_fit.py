"""Fit with Ray: map batches to models and merge these, or train in the process group of Ray Train with any loss."""

import tempfile
from pathlib import Path

import joblib
import numpy as np
import ray
import torch.distributed as dist
from ray.train import Checkpoint, RunConfig, ScalingConfig, get_dataset_shard, report
from ray.train.torch import TorchTrainer

from torchlinreg import TorchLinearRegressor, merge


def make_rows(batch):
    rng = np.random.default_rng(batch["id"])
    X = rng.normal(1.0, [1.0, 10.0, 0.1, 1000.0], size=(5_000, 4))
    return {"X": X, "y": X @ [1.0, 0.2, -30.0, 0.004] + 5.0 + rng.normal(size=len(X))}


def learn(batch):
    return {"model": np.array([TorchLinearRegressor().partial_fit(batch["X"], batch["y"])], dtype=object)}


def train():
    """Learn in one of several processes, from its share of the rows; all have the same model in the end."""
    batches = [*get_dataset_shard("train").iter_batches(batch_size=5_000)]
    X, y = (np.concatenate([batch[name] for batch in batches]) for name in ("X", "y"))
    model = TorchLinearRegressor(loss="huber").fit(X, y, process_group=dist.group.WORLD)
    with tempfile.TemporaryDirectory() as folder:
        joblib.dump(model, Path(folder) / "model.joblib")
        report({}, checkpoint=Checkpoint.from_directory(folder))


def main():
    ray.init(num_cpus=4, include_dashboard=False)
    rows = ray.data.range(8).map_batches(make_rows, batch_size=1).materialize()
    merged = merge(row["model"] for row in rows.map_batches(learn, batch_size=5_000).iter_rows())
    with tempfile.TemporaryDirectory() as storage:
        trainer = TorchTrainer(
            train,
            datasets={"train": rows},
            scaling_config=ScalingConfig(num_workers=2),
            run_config=RunConfig(storage_path=storage),
        )
        with trainer.fit().checkpoint.as_directory() as folder:
            robust = joblib.load(Path(folder) / "model.joblib")

    table = rows.to_pandas()
    X, y = np.stack(table["X"]), table["y"].to_numpy()
    for name, model in (("map_batches and merge", merged), ("TorchTrainer", robust)):
        whole = TorchLinearRegressor(loss=model.loss).fit(X, y)
        difference = np.abs(model.predict(X) - whole.predict(X)).max() / y.std()
        print(f"{name}, {model.loss}: predictions differ from one fit by {difference:.1e} of the target's spread")
        assert difference < 1e-6


if __name__ == "__main__":
    main()

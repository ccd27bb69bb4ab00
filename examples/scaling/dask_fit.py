"""Fit to a Dask frame: learn from each partition where it is, and merge the models as a tree."""

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
from dask.distributed import Client, LocalCluster

from torchlinreg import TorchLinearRegressor, merge


def make_rows(number):
    rng = np.random.default_rng(number)
    table = pd.DataFrame(rng.normal(1.0, [1.0, 10.0, 0.1, 1000.0], size=(5_000, 4)), columns=["a", "b", "c", "d"])
    return table.assign(target=table @ [1.0, 0.2, -30.0, 0.004] + 5.0 + rng.normal(size=len(table)))


@dask.delayed
def learn(table):
    return TorchLinearRegressor().partial_fit(table.drop(columns="target"), table["target"])


def fit(frame):
    """Return the model of all rows; each merge takes two models, in the order of their rows."""
    models = [learn(partition) for partition in frame.to_delayed()]
    while len(models) > 1:
        models = [dask.delayed(merge)(models[start : start + 2]) for start in range(0, len(models), 2)]
    return models[0].compute()


def main():
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
        frame = dd.from_map(make_rows, range(8))
        model = fit(frame)
        table = frame.compute()
    X, y = table.drop(columns="target"), table["target"]
    whole = TorchLinearRegressor().fit(X, y)
    difference = np.abs(model.predict(X) - whole.predict(X)).max() / y.std()
    print(f"{frame.npartitions} partitions: predictions differ from one fit by {difference:.1e} of the target's spread")
    assert difference < 1e-9


if __name__ == "__main__":
    main()

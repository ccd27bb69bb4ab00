"""Runs that are killed at random moments, each resumed from its checkpoint, beside one that is not.

Each run fits 40 chunks of 2000×20 rows, drawn from a seed, that take 10 ms to read, and saves after every chunk. It is
killed by SIGKILL at a moment drawn at random from the time that learning takes without, and started again until it
ends. Half of the runs have a squared loss, half Huber's.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from benchmarks.timing import markdown_table

N_RUNS, QUICK_RUNS, N_CHUNKS = 100, 2, 40
READ_SECONDS = 0.01
LOSSES = ("squared_error", "huber")


class Slow:
    """Chunks of made-up rows that take a while to read."""

    def __len__(self) -> int:
        return N_CHUNKS

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        time.sleep(READ_SECONDS)
        rng = np.random.default_rng(number)
        X = rng.normal(size=(2000, 20))
        return X, X.sum(1) + rng.standard_t(3, size=len(X))


def report(*, quick: bool = False) -> str:
    """Run the benchmark and describe it in Markdown.

    Parameters
    ----------
    quick : bool, default=False
        Whether to take few runs: to see that it runs, not to learn from it.
    """
    rng, rows = np.random.default_rng(0), []
    for loss in LOSSES:
        n_runs = (QUICK_RUNS if quick else N_RUNS) // len(LOSSES)
        with tempfile.TemporaryDirectory() as folder:
            expected, seconds = run(Path(folder), "whole", loss)
            same, kills = 0, 0
            for number in range(n_runs):
                answer = None
                while answer is None:
                    answer, _ = run(Path(folder), f"run{number}", loss, rng.uniform(0, seconds))
                    kills += answer is None
                same += answer == expected
        rows.append((loss, str(n_runs), str(kills), f"{same} of {n_runs}"))
    header = ("loss", "runs", "kills", "with the bits of the uninterrupted run")
    return "\n\n".join([__doc__.partition("\n")[2].strip(), markdown_table(header, rows)])


def run(folder: Path, name: str, loss: str, kill_after: float | None = None) -> tuple[bytes | None, float]:
    """Return the bytes of the coefficients that a process finds, None if it is killed, and how long it learnt."""
    command = [sys.executable, "-m", "benchmarks.crashes", str(folder / name), loss]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        process.stdout.readline()  # learning begins
        began = time.perf_counter()
        with suppress(subprocess.TimeoutExpired):
            process.wait(kill_after)
        seconds = time.perf_counter() - began
        process.kill()
    answer = folder / f"{name}.answer"
    return answer.read_bytes() if answer.exists() else None, seconds


def main(path: str, loss: str) -> None:
    """Fit with a checkpoint, and write down the answer."""
    from torchlinreg import TorchLinearRegressor  # noqa: PLC0415 - in the process that needs it
    from torchlinreg.estimators.training import journal  # noqa: PLC0415

    journal.OVERHEAD = 0  # saves after every chunk
    print("learning begins", flush=True)
    model = TorchLinearRegressor(loss=loss, random_state=0).fit_chunks(Slow(), checkpoint=f"{path}.safetensors")
    unfinished = Path(f"{path}.unfinished")
    unfinished.write_bytes(np.append(model.coef_, model.intercept_).tobytes())
    unfinished.rename(f"{path}.answer")


if __name__ == "__main__":
    main(*sys.argv[1:])

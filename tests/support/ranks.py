"""Processes of `torch.distributed`, each a rank, that run functions of the tests and send back what these return."""

import os
import tempfile
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

TIMEOUT = timedelta(seconds=60)


class Ranks:
    """Processes with one thread each, and a group for the first one, two, ... of them.

    Parameters
    ----------
    size : int
    """

    def __init__(self, size: int):
        context = mp.get_context("spawn")
        self._folder = tempfile.TemporaryDirectory()
        store = str(Path(self._folder.name) / "store")
        self._pipes, self.processes = [], []
        for rank in range(size):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(rank, size, store, theirs), daemon=True)
            process.start()
            self._pipes.append(ours)
            self.processes.append(process)

    def run(self, function, *arguments, size: int) -> list:
        """Return what a function of a group and these arguments returns, or raises, in each of so many processes."""
        for rank in range(size):
            self.send(rank, function, *arguments, size=size)
        return [self.receive(rank) for rank in range(size)]

    def send(self, rank: int, function, *arguments, size: int) -> None:
        """Have one of so many processes begin."""
        self._pipes[rank].send((function, arguments, size))

    def receive(self, rank: int):
        """Return what a process has to say."""
        assert self._pipes[rank].poll(2 * TIMEOUT.total_seconds()), f"rank {rank} hangs"
        return self._pipes[rank].recv()

    def close(self) -> None:
        """End the processes."""
        for process in self.processes:
            process.kill()
            process.join()
        self._folder.cleanup()


def serve(rank: int, size: int, store: str, pipe) -> None:
    """Run what is asked for, for as long as the process that asks is there."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size, timeout=TIMEOUT)
    groups = {n: dist.new_group(range(n), timeout=TIMEOUT) for n in range(1, size + 1)}
    while True:
        try:
            function, arguments, n_ranks = pipe.recv()
        except EOFError:
            return
        try:
            answer = function(groups[n_ranks], *arguments)
        except Exception as error:
            answer = error
        pipe.send(answer)

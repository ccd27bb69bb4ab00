"""The benchmark beside a busy process: who is timed, how often, and that the process goes away."""

import pytest

from benchmarks import load


@pytest.mark.parametrize("title", load.CASES)
def test_everybody_runs_beside_a_busy_process(title, monkeypatch):
    monkeypatch.setattr(load, "SETTLE", 0.0)
    monkeypatch.setattr(load, "RUNS_IF_SHORT", 1)
    contenders = load.CASES[title](quick=True)
    times = load.measure(contenders, 1)
    rows = load.case_rows(title, times)
    assert [row[1] for row in rows] == [*contenders]
    assert [row[-2] for row in rows] == ["≤ 2.5", *[""] * (len(rows) - 1)]
    assert all(len(each.idle) == len(each.busy) > 0 for each in times.values())


def test_slow_contenders_run_less_and_short_ones_more_often(monkeypatch):
    monkeypatch.setattr(load, "SETTLE", 0.0)
    took = {"short": 0.01, "long": 1.0, "slow": 5.0}
    monkeypatch.setattr(load, "seconds_of", lambda run: took[run()])
    times = load.measure({name: lambda name=name: name for name in took}, 4)
    assert [(len(each.idle), len(each.busy)) for each in times.values()] == [(20, 20), (4, 4), (3, 3)]
    assert times["slow"].ratio == 1


def test_the_busy_process_is_gone_afterwards(monkeypatch):
    monkeypatch.setattr(load, "SETTLE", 0.0)
    started = []
    begin = load.subprocess.Popen
    monkeypatch.setattr(load.subprocess, "Popen", lambda command: started.append(begin(command)) or started[-1])
    with load.busy_process():
        assert started[0].poll() is None
    assert started[0].poll() is not None

"""What bootstrap draws."""

import pytest
import torch

from torchlinreg.engine.columns import resampling


def test_draws():
    groups = list(resampling.draw(1000, 300, seed=1))
    counts = torch.cat([counts for _, counts in groups])
    assert [group for group, _ in groups] == [slice(0, 300)]
    assert (counts.sum(1) == 1000).all()
    # Counts are Poisson, nearly: 300 000 of them give their variance to 1 % or so
    assert counts.double().var().item() == pytest.approx(1.0, rel=0.02)
    assert (counts.double().mean(0) - 1.0).abs().max() < 5 / 300**0.5


def test_draws_of_long_tables_come_in_small_groups(monkeypatch):
    whole = torch.cat([counts for _, counts in resampling.draw(50, 7, seed=1)])
    monkeypatch.setattr(resampling, "GROUP_ELEMENTS", 150)
    monkeypatch.setattr(resampling, "CACHED_ELEMENTS", 60)
    groups = list(resampling.draw(50, 7, seed=1))
    assert [group for group, _ in groups] == [slice(0, 3), slice(3, 6), slice(6, 7)]
    assert torch.equal(torch.cat([counts for _, counts in groups]), whole)
    assert [len(counts) for _, counts in resampling.draw(1000, 2, seed=1)] == [1, 1]

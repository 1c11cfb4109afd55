"""Sizes that are products are estimated before anything is allocated."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysim import Experiment, Simulation
from raysim.errors import RaysimError


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["model={name: mlp, hidden: [1000000, 1000000]}"],
            "model mlp: a model of 1,000,076,000,010 parameters takes 4,000.3 GB of memory",
        ),
        (["model={name: resnet18_gn, width: 1000000}"], "model resnet18_gn: "),
        (["model={name: resnet18_gn, width: 1000000, groups: 1000000}"], "model resnet18_gn: "),
        (
            ["data.source={name: synthetic, clients: 10000000}", "data.partition=natural"],
            "data.source: synthetic with 4,541,947,346 samples of 60 dimensions takes 1,162.7 GB of memory",
        ),
        (
            ["data.source={name: synthetic, dimensions: 1000000, classes: 1000000}", "data.partition=natural"],
            "data.source: synthetic with 11,585 samples of 1,000,000 dimensions takes 8,046.3 GB of memory",
        ),
        (
            ["data.source={name: synthetic_virtual, clients: 1000000000, dimensions: 1000000, classes: 1000000}"],
            "data.source: synthetic_virtual with 1,000,000,000 clients",
        ),
        (
            ["data.source={name: synthetic_virtual, samples: 10000000, dimensions: 1000000}"],
            "data.source: synthetic_virtual with 1,000,000 clients of 10,000,000 samples in 1,000,000 dimensions",
        ),
        (
            ["data.partition={name: iid, clients: 1000000000, allow_empty: true}"],
            "data.partition: a population of 1,000,000,000 clients takes 108.0 GB of memory",
        ),
        (
            ["data.source={name: text, sequence_length: 1000000}", "data.partition=natural", "model=lstm_char"],
            "windows of 1,000,000 characters takes",
        ),
    ],
)
def test_what_no_memory_holds_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], line: str
) -> None:
    monkeypatch.setattr("raysim.data.room.available_memory", lambda: 200_000_000)
    base = ["cohort=1", f"tracking.directory={tmp_path}", "execution.executor=inprocess", "training.engine=sequential"]
    with pytest.raises(RaysimError) as caught:
        Simulation(Experiment().updated([*base, *overrides]))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())

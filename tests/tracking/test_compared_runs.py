"""Runs of several seeds beside each other, against intervals that are computed here by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from synthetic_runs import make_clients, make_row

from raysim.config import Experiment
from raysim.errors import RunError, StorageError
from raysim.tracking import RunDirectory, RunTables
from raysim.tracking.report.bands import bands, write_bands
from raysim.tracking.report.groups import compare
from raysim.tracking.report.style import LIGHT

FEDAVG, FEDPROX = [0.80, 0.84, 0.81, 0.86], [0.82, 0.87, 0.83, 0.87]


def make_run(folder: Path, name: str, value: float, *, best: float | None = None, **values: object) -> Path:
    run = RunDirectory.create_at(folder / name, Experiment.parse({"rounds": 3, **values}))
    with RunTables(run, ["test/accuracy"]) as tables:
        for number, accuracy in enumerate((0.1, best or value, value), start=1):
            tables.append(make_row(number, metrics={"test/accuracy": accuracy}), make_clients(number))
    return run.path


def make_groups(folder: Path, seeds: int = 4) -> list[Path]:
    found = []
    for algorithm, values in (("fedavg", FEDAVG), ("fedprox", FEDPROX)):
        for seed, value in enumerate(values[:seeds]):
            settings = {"algorithm": algorithm, "seed": seed, "execution": {"actors": 1 + seed}}
            found.append(make_run(folder, f"{algorithm}-{seed}", value, **settings))
    return found


def test_groups_have_means_and_intervals_and_differences_are_paired_by_seed(tmp_path: Path) -> None:
    found = compare(make_groups(tmp_path))
    assert [one.label for one in found.groups] == ["algorithm fedavg", "algorithm fedprox"]
    for group, values in zip(found.groups, (FEDAVG, FEDPROX), strict=True):
        low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
        assert group.mean == pytest.approx(np.mean(values))
        assert group.half == pytest.approx((high - low) / 2)
    (contrast,) = found.contrasts
    paired = stats.ttest_rel(FEDPROX, FEDAVG).confidence_interval(0.95)
    assert contrast.difference == pytest.approx((paired.low + paired.high) / 2)
    assert contrast.half == pytest.approx((paired.high - paired.low) / 2)
    assert contrast.paired == 4
    assert contrast.more_than_seeds is True


def test_without_common_seeds_the_interval_is_that_of_welch(tmp_path: Path) -> None:
    runs = make_groups(tmp_path)
    other = [make_run(tmp_path, f"b{i}", v, algorithm="fedprox", seed=10 + i) for i, v in enumerate(FEDPROX[:3])]
    (contrast,) = compare([*runs[:4], *other]).contrasts
    welch = stats.ttest_ind(FEDPROX[:3], FEDAVG, equal_var=False).confidence_interval(0.95)
    assert contrast.half == pytest.approx((welch.high - welch.low) / 2)
    assert contrast.paired == 0
    assert contrast.more_than_seeds is False


def test_of_one_run_each_nothing_is_said(tmp_path: Path) -> None:
    runs = make_groups(tmp_path, seeds=1)
    (contrast,) = compare(runs).contrasts
    assert contrast.difference == pytest.approx(FEDPROX[0] - FEDAVG[0])
    assert math.isnan(contrast.half)
    assert contrast.more_than_seeds is None


def test_the_best_of_a_run_is_compared_where_that_is_asked(tmp_path: Path) -> None:
    run = make_run(tmp_path, "a", 0.5, best=0.9)
    assert compare([run]).groups[0].mean == 0.5
    assert compare([run], at="best").groups[0].mean == 0.9


def test_options_of_one_choice_tell_groups_apart(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, f"mu{mu}", 0.5, algorithm={"name": "fedprox", "mu": mu}) for mu in (0.1, 1.0)]
    assert [one.label for one in compare(runs).groups] == ["algorithm.mu 0.1", "algorithm.mu 1.0"]


@pytest.mark.parametrize(("name", "begin"), [("a.svg", b"<?xml"), ("a.pdf", b"%PDF-"), ("a.png", b"\x89PNG")])
def test_the_picture_is_written_in_the_format_of_its_name_and_over_an_earlier_one(
    tmp_path: Path, name: str, begin: bytes
) -> None:
    found = compare(make_groups(tmp_path, seeds=2))
    assert write_bands(found, tmp_path / name).read_bytes().startswith(begin)
    write_bands(found, tmp_path / name)


def test_a_band_stays_where_values_can_be(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, f"a-{seed}", accuracy, seed=seed) for seed, accuracy in enumerate((0.3, 0.99))]
    (axes,) = bands(compare(runs)).draw(LIGHT).axes
    (band,) = axes.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (0, 1), "the interval of two seeds is wider than all accuracies"


def test_what_cannot_be_compared_is_one_line(tmp_path: Path) -> None:
    runs = make_groups(tmp_path, seeds=2)
    with pytest.raises(RunError, match="fedavg-0: has not measured 'test/f1'; it has test/accuracy"):
        compare(runs, "test/f1")
    with pytest.raises(RunError, match="seed 0 is there twice in the group"):
        compare([*runs, make_run(tmp_path, "again", 0.5, algorithm="fedavg", seed=0)])
    with pytest.raises(RunError, match="nothing to compare"):
        compare([])
    with pytest.raises(StorageError, match=r"name ends in \.png"):
        write_bands(compare(runs), tmp_path / "a.gif")
    (tmp_path / "own.svg").write_text("mine")
    with pytest.raises(StorageError, match="exists already and is not an SVG picture"):
        write_bands(compare(runs), tmp_path / "own.svg")

"""Pictures of a report: ticks that can be read, equal curves that are both seen, classes in a picture of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from synthetic_runs import make_row

from raysim.config import Experiment
from raysim.tracking import RunDirectory, RunTables
from raysim.tracking.report.by_class import class_pictures, class_table
from raysim.tracking.report.curves import client_curves, learning_curves, node_curves
from raysim.tracking.report.recorded import RecordedRun, read_run
from raysim.tracking.report.sections import learning
from raysim.tracking.report.style import LIGHT, axes, logarithmic

CLASSES = [f"{where}/recall/{one}" for where in ("test", "validation") for one in "abcdefgh"]
METRICS = ["train/loss", "test/loss", "test/accuracy", "clients/accuracy/mean", "clients/accuracy/std", *CLASSES]
METRICS += [f"clients/recall/{one}/mean" for one in "abcdefgh"]


def recorded(path: Path, rounds: int = 3, metrics: list[str] = METRICS) -> RecordedRun:
    run = RunDirectory.create_at(path, Experiment(rounds=rounds))
    with RunTables(run, metrics) as tables:
        for number in range(1, rounds + 1):
            tables.append(make_row(number, metrics={name: number / (2 + i) for i, name in enumerate(metrics)}))
    return read_run(run.path)


def texts(figure: Figure) -> list[str]:
    figure.draw_without_rendering()
    found = [label.get_text() for ax in figure.axes for axis in (ax.xaxis, ax.yaxis) for label in axis.get_ticklabels()]
    return [text for text in found if text]


@pytest.mark.parametrize(("low", "high"), [(0.001, 1.0), (4, 90), (3e-7, 1e4), (2, 9)])
def test_ticks_of_a_logarithmic_axis_are_plain_numbers(low: float, high: float) -> None:
    figure, ax = axes(LIGHT, "", "")
    ax.plot([low, high], [0, 1])
    logarithmic(ax, low, high)
    shown = texts(figure)
    assert len(shown) >= 4
    assert not any("$" in text or "math" in text for text in shown)
    inside = [text for text in shown[: len(ax.get_xticks())] if low <= float(text.replace(",", "")) <= high]
    assert len(inside) >= 2


def test_of_two_equal_runs_both_curves_are_seen(tmp_path: Path) -> None:
    runs = [recorded(tmp_path / name) for name in ("first", "second")]
    figure = learning_curves(runs)[0].draw(LIGHT)
    first, second = (
        [line for line in figure.axes[0].lines if line.get_color() == LIGHT.series[i] and len(line.get_xdata()) > 1]
        for i in range(2)
    )
    for below, above in zip(first, second, strict=True):
        np.testing.assert_array_equal(below.get_ydata(), above.get_ydata())
        assert below.get_linewidth() >= above.get_linewidth() + 2
        assert below.get_marker() != above.get_marker()


def test_single_classes_have_one_picture_and_a_table_not_a_curve_each(tmp_path: Path) -> None:
    one, other = recorded(tmp_path / "one"), recorded(tmp_path / "other")
    for runs in ([one], [one, other]):
        names = [picture.name for picture in (*learning_curves(runs), *client_curves(runs))]
        assert sorted(names) == ["clients-accuracy", "curve-accuracy", "curve-loss"]
        (picture,) = class_pictures(runs)
        assert "validation" in picture.draw(LIGHT).get_suptitle()
        assert set("abcdefgh") <= set(texts(picture.draw(LIGHT)))
    table = class_table(one)
    assert table is not None
    assert table.text.count("<tr>") == 9
    assert "clients recall mean" in table.text


@pytest.mark.parametrize("classes", [2, 6, 7, 60])
def test_few_classes_are_curves_and_many_are_rows(tmp_path: Path, classes: int) -> None:
    names = [f"test/f1/class{i}" for i in range(classes)]
    run = RunDirectory.create_at(tmp_path / "run", Experiment(rounds=2))
    with RunTables(run, names) as tables:
        for number in (1, 2):
            tables.append(make_row(number, metrics={name: i / classes for i, name in enumerate(names)}))
    (picture,) = class_pictures([read_run(run.path)])
    figure = picture.draw(LIGHT)
    assert len(figure.axes[0].lines) == (classes if classes <= 6 else 0)
    assert sum(text.startswith("class") for text in texts(figure)) == (0 if classes <= 6 else min(classes, 40))
    assert picture.png(LIGHT)


def test_nodes_have_curves_of_their_own_and_bytes_of_edges_none(tmp_path: Path) -> None:
    nodes = [f"nodes/test/{what}/{over}" for what in ("accuracy", "recall/a") for over in ("mean", "worst", "std")]
    metrics = ["test/accuracy", *nodes, "gossip/consensus", "edges/wire_up"]
    one, other = (recorded(tmp_path / name, metrics=metrics) for name in ("one", "other"))
    assert [picture.name for picture in learning_curves([one])] == ["curve-accuracy"]
    for runs in ([one], [one, other]):
        over_nodes, apart = node_curves(runs)
        assert (over_nodes.name, apart.name) == ("nodes-test-accuracy", "consensus")
        figure = over_nodes.draw(LIGHT)
        drawn = {tuple(np.asarray(line.get_ydata()).tolist()) for line in figure.axes[0].lines}
        assert {tuple(one.curve(name).values.tolist()) for name in ("test/accuracy", *nodes[:2])} <= drawn
        assert apart.png(LIGHT)
    assert node_curves([recorded(tmp_path / "plain")]) == []


def test_the_loss_in_training_is_told_apart_from_that_of_the_model(tmp_path: Path) -> None:
    notes = {picture.name: picture.note for picture in learning_curves([recorded(tmp_path / "run")])}
    assert "train is what clients minimise" in notes["curve-loss"]
    assert notes["curve-accuracy"] == ""


def test_no_best_is_shown_of_a_spread(tmp_path: Path) -> None:
    run = recorded(tmp_path / "run")
    assert run.best("clients/accuracy/std") is None
    assert run.best("test/accuracy") is not None
    rows = learning(run, lambda pictures: class_table(run) or pytest.fail("no table")).text.split("<tr>")
    (row,) = [row for row in rows if "clients/accuracy/std" in row]
    assert row.count("–") == 2

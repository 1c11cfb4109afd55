"""What a metric's name says, and what the last lines of a run say of very many metrics."""

from __future__ import annotations

import pytest

from raysim.rounds.rows import RunSummary
from raysim.tracking import smaller_is_better
from raysim.tracking.closing import WIDTH, closing_lines
from raysim.tracking.metric_names import by_class, has_best, parts_of, words


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("test/accuracy", ("test", "accuracy", "", "")),
        ("test/recall/died", ("test", "recall", "died", "")),
        ("clients/accuracy/worst10", ("clients", "accuracy", "", "worst10")),
        ("clients/test/f1/9/mean", ("clients/test", "f1", "9", "mean")),
        ("clients/recall/mean/std", ("clients", "recall", "mean", "std")),
        ("weights/gain", ("", "weights/gain", "", "")),
        ("test", ("", "test", "", "")),
    ],
)
def test_a_name_says_where_what_of_which_class_and_how_summarised(name: str, parts: tuple[str, ...]) -> None:
    assert parts_of(name) == parts


def test_a_spread_over_clients_has_no_best_value() -> None:
    spreads = [f"clients/accuracy/{prefix}{what}" for prefix in ("", "untuned_") for what in ("std", "gini", "jain")]
    assert not any(map(has_best, spreads))
    assert all(map(has_best, ("test/accuracy", "clients/loss/mean", "clients/accuracy/below_local", "rank")))
    assert smaller_is_better("clients/accuracy/untuned_std")


def test_metrics_have_the_names_of_the_field() -> None:
    assert [words(what) for what in ("pr_auc", "f1/died", "balanced_accuracy", "my.metrics:bias")] == [
        "PR-AUC", "F1 of died", "Balanced accuracy", "Bias",
    ]  # fmt: skip


def test_classes_are_found_together() -> None:
    found = by_class(["test/recall/a", "test/loss", "clients/recall/a/mean", "test/recall/b"])
    assert found == {
        ("test", "recall", ""): {"a": "test/recall/a", "b": "test/recall/b"},
        ("clients", "recall", "mean"): {"a": "clients/recall/a/mean"},
    }


def test_the_last_lines_sum_many_classes_up() -> None:
    metrics = {"train/loss": 0.5, "test/loss": 0.4}
    metrics |= {f"test/recall/class{i}": i / 100 for i in range(100)}
    metrics |= {f"clients/recall/class{i}/mean": i / 100 for i in range(100)}
    metrics |= {"test/f1/died": 0.25, "test/f1/lived": 0.75, "clients/accuracy/mean": 0.5}
    lines = closing_lines(RunSummary(3, "done", 1.0, metrics))
    assert lines == [
        "done: 3 rounds in 1.0 s",
        "train/loss 0.5000  test/loss 0.4000",
        "test/recall: mean 0.4950 over 100 classes, 0.0000 (class0) to 0.9900 (class99)",
        "test/f1: died 0.2500  lived 0.7500",
        "clients accuracy: mean 0.5000",
    ]


def test_metrics_that_do_not_fit_a_line_have_one_for_each_set() -> None:
    metrics = {f"{part}/metric{i}": 0.5 for part in ("test", "validation") for i in range(5)}
    lines = closing_lines(RunSummary(3, "done", 1.0, metrics))[1:]
    assert [line.partition(": ")[0] for line in lines] == ["test", "validation"]
    assert all(len(line) <= WIDTH for line in lines)

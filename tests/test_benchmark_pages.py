"""Benchmarks of published results: what was measured is kept, and the pages can be written of any part of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import fairness
import fedopt
import fedprox_synthetic
import large_models_page
import niid_bench
from keeping import Kept, signs, table

from raysim.models import fingerprint


def test_a_measurement_is_made_once_and_outlives_the_script(tmp_path: Path) -> None:
    made: list[int] = []

    def measure() -> float:
        made.append(1)
        return 0.5

    assert Kept("one", tmp_path).of("a", measure) == 0.5
    assert Kept("one", tmp_path).of("a", measure) == 0.5
    assert len(made) == 1
    assert Kept("one", tmp_path).all() == {"a": 0.5}


def test_signs_count_what_goes_up_and_down() -> None:
    assert signs([1.0, -0.5, 0.0, 2.0]) == "2 up, 1 down"
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n|---|---|\n| 1 | 2 |\n"


def one_of_each(module: Any) -> dict[str, Any]:
    if module is fedprox_synthetic:
        return {f"{name}; {way}; seed 0": 0.9 if way == "mu=1" else 0.8 for name, way in fedprox_synthetic.PLAN}
    if module is fairness:
        names = fairness.ALGORITHMS
        return {fairness.key(0.8, "size", name, 500, 0): dict.fromkeys(fairness.MEASURED, 0.25) for name in names}
    if module is fedopt:
        trials = {
            fedopt.key("FedAvg", *rates, 0): {"validation": rates[1], "test": 0.5} for rates in fedopt.trials("FedAvg")
        }
        finals = {(client, 3.16, 0): client for client in fedopt.CLIENT_RATES} | {
            (0.316, 3.16, 1): 0.0,
            (1, 3.16, 1): 0.0,
        }
        finals[0.316, 3.16, 0] = 2.0  # a better end than its beginning
        whole = {
            f"{fedopt.key('FedAvg', *which)}; final": {"validation": value, "test": 0.875}
            for which, value in finals.items()
        }
        return trials | whole
    return {"IID; FedAvg": [0.9, 0.95]}


@pytest.mark.parametrize(
    ("module", "line"),
    [
        (fedprox_synthetic, "| (1, 1): mu=1 against mu=0 | +10.0 | 1 up, 0 down | +5.8 | 3 up, 0 down |"),
        (fairness, "| 0.8, size | 500 | TERM, t=1 | +0.0 (0 up, 0 down) | +0.0 (0 up, 0 down) | +0.0 (0 up, 0 down) |"),
        (fedopt, "| FedAvg | 0.316 / 3.16 | 200.00 | 87.50 | 87.50 |"),
        (niid_bench, "| IID | FedAvg | 2 | 90.00 |  |  |  |  | 99.09 |"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_page_is_of_what_there_is(module: Any, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept("page", tmp_path)
    monkeypatch.setattr(module, "KEPT", kept)
    assert module.page().count("\n") > 5, "a page of nothing"
    for key, value in one_of_each(module).items():
        kept.put(key, value)
    assert line in module.page()


def test_the_page_of_large_models_has_a_mean_with_its_interval_and_each_algorithm() -> None:
    assert large_models_page.page({}).count("Not measured.") == 4
    spam = {"gap": [], "up": 8, "down": 8, "seconds": 1}
    known: dict[str, Any] = {
        f"spam; seed {seed}": {**spam, "accuracy": {"2": 0.5, "5": value}}
        for seed, value in enumerate((0.90, 0.91, 0.92))
    }
    curve = {"test/accuracy": [0.25, 0.5], "test/perplexity": [9.0, 8.0], "validation/perplexity": [9.0, 8.0]}
    known |= {"outer; fedavg": {"algorithm": "fedavg", **curve}, "outer; trial of fedadam 0.01": curve}
    known["scalars; gpt"] = {"parameters": 10, "sha256": "ab", "rebuilt": "cd", "up": 4, "down": 4, "seconds": 1}
    page = large_models_page.page(known)
    assert "0.9100 ± 0.0248" in page, "Student's t of two degrees of freedom"
    assert "| 2 | 0.500 / 8.00 |" in page
    assert "0.01: 8.00." in page
    assert "cd: ANOTHER" in page


def test_every_setting_is_valid() -> None:
    made: list[Callable[[], Any]] = [
        lambda p=partition, a=algorithm: niid_bench.setting(p, a)
        for partition in niid_bench.PARTITIONS
        for algorithm in niid_bench.ALGORITHMS
    ]
    assert {make().rounds for make in made} == {50}
    one, other = niid_bench.lenet(), niid_bench.lenet()
    assert sum(parameter.numel() for parameter in one.parameters()) == 44_426
    assert fingerprint(one) == fingerprint(other), "a resume would refuse it"

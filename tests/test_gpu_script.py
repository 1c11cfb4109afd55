"""The script for a GPU runs on a CPU, with a few tiny clients."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import gpu


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, gpu.Subject]:
    found = gpu.subjects(str(tmp_path_factory.mktemp("federations")), toy=True)
    return {one.name: one for one in found}


CARD = gpu.Card("cpu", 60.0)


def test_rounds_are_timed_by_engine_and_by_the_number_of_clients_at_once(
    subjects: dict[str, gpu.Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "ROUNDS", 3)
    monkeypatch.setattr(gpu, "ENGINES", {name: gpu.ENGINES[name] for name in ("one after the other", "rows", "auto")})
    found = gpu.engines(subjects["A"], CARD)
    assert [line[:3] for line in found] == [
        ["A", "one after the other", ""],
        ["A", "rows", "3"],
        ["A", "auto: sequential", ""],
    ]
    assert all(float(line[3]) > 0 and float(line[4].replace(",", "")) > 0 for line in found)
    assert [line[:2] for line in gpu.rows(subjects["GPT"], CARD)] == [["GPT", "2"], ["GPT", "3 (chosen)"]]


@pytest.mark.ray
def test_clients_at_once_and_actors_change_no_bit(subjects: dict[str, gpu.Subject], ray_session: object) -> None:
    found = gpu.bits(subjects["A"], CARD)
    assert [line[1] for line in found] == [
        "2 at once",
        "3 at once",
        "2 at once, again",
        "1 actors on Ray",
        "2 actors on Ray",
    ]
    assert {line[3] for line in found} == {"same"}


def test_the_page_has_memory_and_the_share_of_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "ROUNDS", 3)
    only = ["--only", "memory,peak", "--subjects", "D", "--results", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--toy", *only])
    gpu.main()
    page = (tmp_path / "gpu.md").read_text()
    assert "| D | 2 | " in page
    assert "| workload | GFLOP/s | of a product | share |" in page
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--only", "speed"])
    with pytest.raises(SystemExit):
        gpu.main()

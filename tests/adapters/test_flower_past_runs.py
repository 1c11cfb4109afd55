"""Runs of Flower's apps beside others: what lists them, and what says that it is not for them. Flower is not needed."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import invoke


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """What a run of an app leaves, as far as other commands look at it."""
    folder = tmp_path / "runs" / "fl-app"
    folder.mkdir(parents=True)
    (folder / "flower.yaml").write_text("app: my_app\nnodes: 4\nconfig: {seed: 3}\n")
    events = (
        {"event": "started", "level": "info"},
        {"event": "finished", "reason": "all rounds are done", "level": "info"},
    )
    lines = [json.dumps({"time": "2026-01-01T00:00:00+00:00", **event}) for event in events]
    (folder / "log.jsonl").write_text("\n".join(lines) + "\n")
    columns = {
        "round": [0, 1, 2],
        "clients": [0, 4, 4],
        "seconds": [0.5, 1.0, 2.0],
        "evaluate/accuracy": [None, 0.5, 0.75],
    }
    pq.write_table(pa.table(columns), folder / "rounds.parquet")
    return folder


def test_it_is_listed_with_its_metric(run: Path) -> None:
    (listed,) = json.loads(invoke("runs", str(run.parent), "--json").stdout)["runs"]
    assert listed["state"] == "finished"
    assert (listed["rounds"], listed["seconds"]) == (2, 3.5)
    assert (listed["metric"], listed["last"]) == ("evaluate/accuracy", 0.75)
    shown = invoke("runs", str(run.parent), "--filter", "seed=3")
    assert "no run here has the key" in shown.output
    assert "flower" in invoke("runs", str(run.parent), "--filter", "algorithm=flower").output


@pytest.mark.parametrize("command", [["verify"], ["compare"], ["export", "--to", "model.pt"]])
def test_what_is_for_configurations_says_so_in_one_line(command: list[str], run: Path) -> None:
    done = invoke(command[0], str(run), *command[1:])
    assert done.exit_code == 2
    assert "is the run of an app of Flower, which `raysim runs`, `report` and `resume` take" in done.output
    assert len(done.output.strip().splitlines()) == 1

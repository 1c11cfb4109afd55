"""Which rows of a file each client and each test set got."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from command_line import invoke

from raysim import Experiment
from raysim.data import prepare, source_rows
from raysim.errors import DataError


def table(folder: Path) -> dict[str, Any]:
    lines = [f"{i},{'abc'[i % 3]},{'' if i % 10 == 4 else i / 7},{i % 2}" for i in range(60)]
    (folder / "t.csv").write_text("\n".join(["number,who,size,label", *lines]) + "\n")
    source = {"name": "csv", "path": str(folder / "t.csv"), "label": "label", "client": "who"}
    return {
        "source": source,
        "partition": "natural",
        "test": 0.2,
        "validation": 0.1,
        "holdout": 0.25,
        "transforms": ["missing"],
        "cache": str(folder / "cache"),
    }


def test_the_rows_of_every_part_are_those_that_the_shards_hold(tmp_path: Path) -> None:
    experiment = {"data": table(tmp_path)}
    rows = source_rows(experiment).to_pandas()
    federation = prepare(Experiment.parse(experiment).data, 0).open()
    for client in range(3):
        for part in ("train", "holdout"):
            held = federation.shard(client, part).x[:, 0]
            own = rows[(rows.part == part) & (rows.client == client)]
            assert own.row.tolist() == held.tolist()
            assert set(own.owner) == {"abc"[client]}
            assert all("abc"[row % 3] == "abc"[client] for row in own.row)
    for name in ("validation", "test"):
        samples = federation.server(name)  # type: ignore[arg-type]
        assert samples is not None
        own = rows[rows.part == name]
        assert own.row.tolist() == samples.x[:, 0].tolist()
        assert own.client.isna().all()
    assert sorted(rows.row) == [i for i in range(60) if i % 10 != 4]


def test_samples_of_a_test_set_of_the_sources_own_name_their_client() -> None:
    x, y = np.arange(12.0).reshape(12, 1), np.arange(12) % 2
    data = {"x": x, "y": y, "x_test": x[:4], "y_test": y[:4], "client": np.repeat(["a", "b"], 6)}
    data["client_test"] = np.array(["b", "a", "", "b"])
    rows = source_rows({"data": {"partition": "natural"}}, data=data).to_pylist()
    tested = [one for one in rows if one["part"] == "test"]
    assert [one["row"] for one in tested] == [0, 1, 2, 3]
    assert [one["owner"] for one in tested] == ["b", "a", None, "b"]


def test_the_command_writes_them_beside_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = invoke("data", "build", "quickstart", "--rows", "rows.parquet")
    assert done.exit_code == 0, done.output
    assert pq.read_table("rows.parquet").num_rows == 1797
    assert invoke("data", "build", "quickstart", "--rows", "rows.parquet").exit_code == 0  # written again
    Path("mine.parquet").write_bytes(b"PAR1 something else")
    refused = invoke("data", "build", "quickstart", "--rows", "mine.parquet")
    assert refused.exit_code == 2
    assert "exists already and is not a table of rows" in refused.output


def test_samples_that_are_made_are_no_rows() -> None:
    with pytest.raises(DataError, match="synthetic_virtual makes its samples on the workers"):
        source_rows({"data": {"source": "synthetic_virtual"}})

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import Result

from raysim.cli import doctor
from raysim.cli.findings import GIB
from raysim.cli.nodes import node_findings
from raysim.cluster import inspection
from raysim.cluster.inspection import NoAnswer, NodeFacts

WELL = NodeFacts(
    name="one",
    cpus=4,
    gpus=1,
    versions={"python": "3.11.7", "ray": "2.60.0"},
    processor="AVX512",
    gpus_seen=1,
    shared_free=8 * GIB,
    open_files=65536,
    disk_free=100 * GIB,
    sees_cache=True,
)


def said(*nodes: NodeFacts) -> dict[str, str]:
    """What is not well, and how badly."""
    found = list(node_findings(nodes))
    assert all(bool(finding.remedy) == (finding.level != "ok") for finding in found)
    return {finding.what: finding.level for finding in found if finding.level != "ok"}


def test_nodes_that_agree_have_one_line_for_each_check() -> None:
    found = list(node_findings([WELL, replace(WELL, name="two")]))
    assert {finding.level for finding in found} == {"ok"}
    assert len({finding.what for finding in found}) == len(found)
    assert found[0].found == "3.11.7, 2 nodes"


@pytest.mark.parametrize(
    ("changed", "ill"),
    [
        ({"versions": {"python": "3.11.7", "ray": "2.59.0"}}, {"ray": "bad"}),
        ({"versions": {"python": "3.11.7", "ray": "none"}}, {"ray": "bad"}),
        ({"processor": "AVX2"}, {"processors": "bad"}),
        ({"gpus_seen": 0}, {"cuda": "bad"}),
        ({"shared_free": GIB // 16}, {"shared memory": "warn"}),
        ({"open_files": 1000}, {"open files": "warn"}),
        ({"open_files": 100}, {"open files": "bad"}),
        ({"open_files": None, "shared_free": None}, {}),
        ({"disk_free": GIB}, {"disk": "warn"}),
        ({"disk_free": GIB // 16}, {"disk": "bad"}),
        ({"clock": -90.0, "clock_error": 0.01}, {"clock": "warn"}),
        ({"clock": 1.5, "clock_error": 2.0}, {}),
        ({"sees_cache": False}, {"cache": "bad"}),
    ],
)
def test_one_that_differs_is_named_with_the_remedy(changed: dict[str, object], ill: dict[str, str]) -> None:
    odd = replace(WELL, name="two", **changed)
    assert said(WELL, odd) == ill
    assert all("on two" in one.found for one in node_findings([WELL, odd]) if one.level != "ok")


def test_a_head_without_clients_may_have_another_processor_and_no_shards() -> None:
    head = replace(WELL, name="head", cpus=0, gpus=0, gpus_seen=0, processor="AVX2", sees_cache=False)
    assert said(head, WELL) == {}


def test_a_node_without_an_answer_is_bad(raysim: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CHECKS", ())
    monkeypatch.setattr(inspection, "inspect_nodes", lambda *_: [WELL, NoAnswer("two", "ModuleNotFoundError: raysim")])
    result = raysim("doctor", "--address", "auto")
    assert result.exit_code == 1
    assert "two: ModuleNotFoundError: raysim; install raysim there as on the driver" in result.stdout


def test_a_reason_is_one_line() -> None:
    missing = RuntimeError("The actor died\n  File x\nModuleNotFoundError: No module named 'raysim'")
    assert inspection._reason(missing) == "ModuleNotFoundError: No module named 'raysim'"
    assert inspection._reason(RuntimeError("The actor died\nand so on")) == "The actor died"


@pytest.mark.ray
def test_nodes_that_disagree_are_found_on_a_real_cluster(tmp_path: Path) -> None:
    """In a process of its own: it needs a Ray of several nodes."""
    script = Path(__file__).parents[1] / "cluster" / "two_unlike_nodes.py"
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    code, lines = found["alike"]
    assert code == 0, lines
    assert "ok clock within 1 s, 1 node" in lines
    code, lines = found["unlike"]
    assert code == 1
    bad = [line.split()[1] for line in lines if line.startswith("bad ")]
    assert bad == ["numpy", "cuda"]
    assert any(line.startswith("bad numpy 0.0.1 on ") and "install the versions" in line for line in lines)

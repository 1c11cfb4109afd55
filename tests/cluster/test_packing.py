"""What actors receive of a model: its structure and values once, a large frozen base as a file that they all map."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path
from typing import Any

import frozen_bases
import pytest
import torch
from federations import final_sha256
from frozen_bases import Unnamed, arrays
from torch import nn

from raysim import Experiment, Simulation
from raysim.cluster.packing import packed_job
from raysim.errors import ModelError
from raysim.execution.placement import memory
from raysim.execution.preparation.prepare import prepare_job
from raysim.rounds.job import Job

BY_NAME = {"model": {"name": "frozen_bases:unnamed"}}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAYSIM_CACHE", str(tmp_path))
    monkeypatch.setattr(memory, "MAPPED_FROM", 1)
    return tmp_path


def experiment_of(tmp_path: Path, **sections: Any) -> Experiment:
    return frozen_bases.experiment_of(tmp_path, "ray", **sections)


def job_of(tmp_path: Path, module: nn.Module | None = None) -> Job:
    model = BY_NAME if module is None else {}
    return prepare_job(experiment_of(tmp_path, **model), model=module, data=arrays()).job


@pytest.mark.parametrize("handed_over", [True, False])
def test_an_actor_builds_the_same_module_whether_its_base_is_in_a_file_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handed_over: bool
) -> None:
    job = job_of(tmp_path, Unnamed() if handed_over else None)
    info = job.federation.open().info
    expected = job.build_module(info).state_dict()
    packed, note = packed_job(job, 1)
    assert note is None
    assert len(list(tmp_path.glob("bases/*/base.safetensors"))) == 1
    monkeypatch.setattr(memory, "MAPPED_FROM", 2)
    in_memory, note = packed_job(job, 1)
    assert note is None
    assert (in_memory is job) != handed_over  # by name, actors build it
    for one in (packed, in_memory):
        found = pickle.loads(pickle.dumps(one)) if one is not job else one
        for name, tensor in found.build_module(info).state_dict().items():
            assert torch.equal(tensor, expected[name])


def test_a_cache_that_cannot_be_written_leaves_the_base_in_memory_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "bases").write_text("in the way")
    job = job_of(tmp_path, Unnamed())
    packed, note = packed_job(job, 1)
    assert note is not None
    assert note.startswith("each actor holds the model's frozen base in memory: ")
    assert "data.cache" in note
    arrived = pickle.loads(pickle.dumps(packed))
    assert torch.equal(arrived.build_module(job.federation.open().info).base.weight, Unnamed().base.weight)


def test_a_module_that_cannot_be_sent_is_one_line_and_one_by_name_is_built_by_actors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = Unnamed()
    locked.lock = threading.Lock()
    locked.__class__ = type("Locked", (Unnamed,), {"__deepcopy__": lambda self, memo: Unnamed()})
    with pytest.raises(ModelError, match=r"model Locked cannot be sent to another process \(TypeError: cannot pickle"):
        packed_job(job_of(tmp_path, locked), 1)
    by_name = job_of(tmp_path)
    monkeypatch.setattr(Unnamed, "__reduce__", lambda self: 1 / 0)
    assert packed_job(by_name, 1) == (by_name, None)


def mappings(path: Path) -> list[tuple[str, int]]:
    """Process, and KiB of pages that it wrote to, of each mapping of a file, of all processes that can be looked at."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            lines = (process / "smaps").read_text().splitlines()
        except OSError:
            continue
        for number, line in enumerate(lines):
            if line.endswith(str(path)):
                own = next(one for one in lines[number:] if one.startswith("Anonymous"))
                found.append((process.name, int(own.split()[1])))
    return found


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("handed_over", [True, False])
def test_actors_map_one_file_and_come_to_the_bits_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handed_over: bool
) -> None:
    module = Unnamed() if handed_over else None
    model = {} if handed_over else BY_NAME
    monkeypatch.chdir(Path(frozen_bases.__file__).parent)  # where actors import from
    alone = experiment_of(tmp_path, execution={"executor": "inprocess"}, **model)
    expected = final_sha256(alone, model=module, data=arrays())
    assert not list(tmp_path.glob("bases/*"))  # one process has it in memory anyway
    experiment = experiment_of(tmp_path, **model)
    with Simulation(experiment, model=module, data=arrays()) as simulation:
        next(iter(simulation))
        (path,) = tmp_path.glob("bases/*/base.safetensors")
        actors = mappings(path)
        assert len(actors) >= 2
        assert {own for _, own in actors} == {0}
    assert final_sha256(experiment, model=module, data=arrays()) == expected

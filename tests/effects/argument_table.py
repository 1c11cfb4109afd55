"""What is tried of each argument of the Python API: by its name, what comes out with two values of it.

A case takes the place where runs go and returns both outcomes; a refusal is an outcome, too.
"""

from __future__ import annotations

import bdb
import io
import os
import shutil
import socket
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from federations import sha256
from outcomes import linear

from raysim import Experiment, LivePage, Simulation, debug, export, serve, tune, verify
from raysim.errors import RaysimError
from raysim.tracking import QuietObserver
from raysim.tuning.progress import QuietStudy

SETTING: Mapping[str, Any] = {
    "rounds": 1,
    "cohort": 1.0,
    "data": {"partition": {"name": "iid", "clients": 3}, "validation": 0.2},
    "client": {"steps": 1},
    "training": {"engine": "sequential"},
    "execution": {"executor": "inprocess"},
    "tracking": {"report": False},
    "tuning": {
        "space": {"client.epochs": {"low": 1, "high": 9}},
        "trials": 1,
        "sampler": "random",
        "objective": {"metric": "validation/loss"},
        "confirm": {"seeds": 0},
    },
}
FASTER = "client.optimizer.lr=0.9"
AGAIN = ["rounds=2"]


def data(seed: int = 0) -> Any:
    random = np.random.default_rng(seed)
    return random.normal(size=(30, 4)).astype(np.float32), np.arange(30) % 3


def halved(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Half of the cross-entropy of each sample."""
    return torch.nn.functional.cross_entropy(output, target, reduction="none") / 2


class RunTold(QuietObserver):
    """Keeps the rounds that a run tells of."""

    def __init__(self) -> None:
        self.told: list[int] = []

    def round(self, row: Any) -> None:
        self.told.append(row.round)


class StudyTold(QuietStudy):
    """Keeps the trials that a study tells of."""

    def __init__(self) -> None:
        self.told: list[int] = []

    def trial(self, line: Any) -> None:
        self.told.append(line.number)


def free_port() -> int:
    """A port of this machine that nothing listens at, and that it gives to nobody who asks for any: these are above."""
    for port in range(10_000 + os.getpid() % 10_000, 32_768):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("all ports are taken")


class Place:
    """A folder with runs in it: `run`, `handed` with a module handed over, `strange` of another torch, `longer` of
    three rounds, and a study."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.experiment = Experiment.parse(SETTING).updated([f"tracking.directory={folder}/runs"])
        self.faster = self.experiment.updated([FASTER])
        self.file = folder / "experiment.yaml"
        self.experiment.to_yaml(self.file)
        self.run, self.handed, self.strange = (folder / name for name in ("run", "handed", "strange"))
        for run, module in ((self.run, None), (self.handed, linear()), (self.strange, None)):
            with Simulation(self.experiment, data=data(), model=module, directory=run) as simulation:
                simulation.run()
        for file in (self.strange / "environment.json", self.strange / "chain.jsonl"):
            file.write_text(file.read_text().replace(torch.__version__, "0.1"))
        self.longer = folder / "longer"
        with Simulation(self.experiment.updated(["rounds=3"]), data=data(), directory=self.longer) as simulation:
            simulation.run()
        self.study = tune(self.experiment, data=data(), directory=folder / "study").directory

    def new(self) -> Path:
        return self.folder / f"new-{len(list(self.folder.iterdir()))}"

    def trained(self, experiment: Any, **given: Any) -> Any:
        """Where a run of an experiment is, and its model."""
        with Simulation(experiment, **{"data": data(), "directory": self.new()} | given) as simulation:
            simulation.run()
            return simulation.directory.parent, sha256(simulation.model())

    def columns(self, *name: str, **given: Any) -> list[str]:
        """Columns of a table of a run, with these arguments."""
        with Simulation(self.experiment, data=data(), directory=self.new(), **given) as simulation:
            simulation.run()
            return simulation.table(*name).columns

    def served(self, start: Callable[..., LivePage], **given: Any) -> Any:
        """Where a page is served, whether at the port that was free, and whether it asks for a token."""
        with start(**{"folder": self.folder, "port": 0} | given) as page:
            return page.host, page.port == given.get("port"), page.token is None

    def resumed(self, run: Path, **given: Any) -> str:
        """The model of a copy of a run that goes on for a round."""
        with Simulation.resume(
            shutil.copytree(run, self.new()), **{"data": data(), "overrides": AGAIN} | given
        ) as simulation:
            simulation.run()
            return sha256(simulation.model())

    def debugged(self, run: Path, **given: Any) -> Any:
        found = debug(run, **{"client": 0, "round": 1, "data": data()} | given)
        return found.client, found.round, found.loss, found.different

    def verified(self, run: Path, **given: Any) -> Any:
        """The rounds that were computed again, and whether they were the same."""
        found = verify(run, **{"data": data()} | given)
        return [one.round for one in found.rounds], found.same

    def exported(self, run: Path, **given: Any) -> str:
        """What is said of a model that is no transformer: all of these runs have one."""
        return str(self.said(export, run, **{"to": self.folder / "transformer", "data": data()} | given))

    def tuned(self, experiment: Any, **given: Any) -> Any:
        found = tune(experiment, **{"data": data(), "directory": self.new()} | given)
        return found.directory.parent, [trial.values for trial in found.study.trials]

    def said(self, work: Callable[..., Any], *arguments: Any, **given: Any) -> Any:
        """What comes out; a refusal in its words, without the names of new folders."""
        try:
            return work(*arguments, **given)
        except RaysimError as error:
            return f"refused: {error}"


def written(place: Place, path: Path | None) -> bool:
    """Whether the experiment is written to a path."""
    place.experiment.to_yaml(path)
    return path is not None and path.is_file()


def debugged_by_hand(place: Place) -> str:
    """What pdb prints when its user leaves at once."""
    with redirect_stdout(io.StringIO()) as printed, patch("sys.stdin", io.StringIO("q\n")), suppress(bdb.BdbQuit):
        place.debugged(place.run, debugger=True)
    return printed.getvalue()


def listened(work: Callable[..., Any], listener: Any, *arguments: Any) -> tuple[list[int], list[int]]:
    """What a listener is told that is not handed over, and what it is told then."""
    work(*arguments)
    before = list(listener.told)
    work(*arguments, progress=listener)
    return before, listener.told


def told_of(work: Callable[..., Any], place: Place) -> list[str]:
    lines: list[str] = []
    work(place.run, tell=lines.append)
    return lines


ARGUMENTS: Mapping[str, Callable[[Place], tuple[Any, Any]]] = {
    "Experiment.model_json_schema.arguments": lambda at: (
        Experiment.model_json_schema(),
        Experiment.model_json_schema(True, "#/sections/{model}"),
    ),
    "Experiment.model_json_schema.options": lambda at: (
        Experiment.model_json_schema(),
        Experiment.model_json_schema(ref_template="#/sections/{model}"),
    ),
    "Experiment.parse.values": lambda at: (Experiment.parse({}), Experiment.parse({"rounds": 3})),
    "Experiment.parse.where": lambda at: (
        at.said(Experiment.parse, {"rounds": 0}),
        at.said(Experiment.parse, {"rounds": 0}, where="my notebook"),
    ),
    "Experiment.of.given": lambda at: (Experiment.of(at.file), Experiment.of({"rounds": 3})),
    "Experiment.from_yaml.path": lambda at: (Experiment.from_yaml(at.file), Experiment.from_yaml("quickstart")),
    "Experiment.from_yaml.overrides": lambda at: (Experiment.from_yaml(at.file), Experiment.from_yaml(at.file, AGAIN)),
    "Experiment.updated.overrides": lambda at: (at.experiment.updated([]), at.experiment.updated(AGAIN)),
    "Experiment.to_yaml.path": lambda at: (written(at, None), written(at, at.new())),
    "Experiment.cohort_too_large.population": lambda at: tuple(map(at.experiment.cohort_too_large, (3, 4))),
    "Simulation.experiment": lambda at: (at.trained(at.experiment), at.trained(at.faster)),
    "Simulation.model": lambda at: (at.trained(at.experiment), at.trained(at.experiment, model=linear())),
    "Simulation.data": lambda at: (at.trained(at.experiment), at.trained(at.experiment, data=data(1))),
    "Simulation.loss": lambda at: (at.trained(at.experiment), at.trained(at.experiment, loss=halved)),
    "Simulation.metrics": lambda at: (at.columns(), at.columns(metrics=[halved])),
    "Simulation.directory": lambda at: (at.trained(at.experiment, directory=None), at.trained(at.experiment)),
    "Simulation.progress": lambda at: listened(at.trained, RunTold(), at.experiment),
    "Simulation.table.name": lambda at: (at.columns(), at.columns("clients")),
    "Simulation.resume.run": lambda at: (at.resumed(at.run), at.said(at.resumed, at.strange)),
    "Simulation.resume.overrides": lambda at: (at.resumed(at.run), at.resumed(at.run, overrides=["rounds=3"])),
    "Simulation.resume.model": lambda at: (at.resumed(at.handed, model=linear()), at.said(at.resumed, at.handed)),
    "Simulation.resume.data": lambda at: (at.resumed(at.run), at.said(at.resumed, at.run, data=data(1))),
    "Simulation.resume.loss": lambda at: (at.resumed(at.run), at.said(at.resumed, at.run, loss=halved)),
    "Simulation.resume.metrics": lambda at: (
        at.resumed(at.run),
        at.said(at.resumed, at.run, metrics=[lambda output, target: output.sum()]),
    ),
    "Simulation.resume.allow_different_bits": lambda at: (
        at.said(at.resumed, at.strange),
        at.resumed(at.strange, allow_different_bits=True),
    ),
    "Simulation.resume.progress": lambda at: listened(at.resumed, RunTold(), at.run),
    **{
        f"{name}.{argument}": lambda at, start=start, given=given: (
            at.served(start),
            at.said(at.served, start, **given()),
        )
        for name, start in (("LivePage", LivePage), ("serve", serve))
        for argument, given in {
            "folder": lambda: {"folder": "nowhere"},
            "host": lambda: {"host": "127.0.0.2"},
            "port": lambda: {"port": free_port()},
            "token": lambda: {"token": True},
        }.items()
    },
    "tune.experiment": lambda at: (at.tuned(at.experiment), at.tuned(at.faster)),
    "tune.directory": lambda at: (at.tuned(at.experiment, directory=None), at.tuned(at.experiment)),
    "tune.model": lambda at: (at.tuned(at.experiment), at.tuned(at.experiment, model=linear())),
    "tune.data": lambda at: (at.tuned(at.experiment), at.tuned(at.experiment, data=data(1))),
    "tune.overrides": lambda at: (at.tuned(at.experiment), at.tuned(at.experiment, overrides=[FASTER])),
    "tune.progress": lambda at: listened(at.tuned, StudyTold(), at.experiment),
    "export.run": lambda at: (at.exported(at.run), at.exported(at.folder / "nowhere")),
    "export.to": lambda at: (at.exported(at.run), at.exported(at.run, to=at.run)),
    "export.format": lambda at: (at.exported(at.run), at.exported(at.run, format="onnx", to=at.run)),
    "export.merged": lambda at: (at.exported(at.run), at.exported(at.run, merged=True)),
    "export.model": lambda at: (at.exported(at.handed, model=linear()), at.exported(at.handed)),
    "export.data": lambda at: (at.exported(at.run), at.exported(at.run, data=None)),
    "debug.run": lambda at: (at.debugged(at.run), at.debugged(at.strange)),
    "debug.client": lambda at: (at.debugged(at.run), at.debugged(at.run, client=1)),
    "debug.round": lambda at: (at.debugged(at.run), at.said(at.debugged, at.run, round=2)),
    "debug.debugger": lambda at: ("", debugged_by_hand(at)),
    "debug.model": lambda at: (at.debugged(at.handed, model=linear()), at.said(at.debugged, at.handed)),
    "debug.data": lambda at: (at.debugged(at.run), at.said(at.debugged, at.run, data=None)),
    "debug.loss": lambda at: (at.debugged(at.run), at.debugged(at.run, loss=halved)),
    "debug.tell": lambda at: ([], told_of(at.debugged, at)),
    "verify.run": lambda at: (at.verified(at.run), at.said(at.verified, at.strange)),
    "verify.rounds": lambda at: (at.verified(at.longer), at.verified(at.longer, rounds=[1])),
    "verify.random": lambda at: (at.verified(at.longer), at.verified(at.longer, random=2)),
    "verify.seed": lambda at: (at.verified(at.longer, random=1), at.verified(at.longer, random=1, seed=1)),
    "verify.all": lambda at: (at.verified(at.longer), at.verified(at.longer, all=True)),
    "verify.anyway": lambda at: (at.said(at.verified, at.strange), at.verified(at.strange, anyway=True)),
    "verify.model": lambda at: (at.verified(at.handed, model=linear()), at.said(at.verified, at.handed)),
    "verify.data": lambda at: (at.verified(at.run), at.said(at.verified, at.run, data=None)),
    "verify.loss": lambda at: (at.verified(at.run), at.verified(at.run, loss=halved)),
    "verify.metrics": lambda at: (at.verified(at.run), at.verified(at.run, metrics=[halved])),
    "verify.tell": lambda at: ([], told_of(at.verified, at)),
}

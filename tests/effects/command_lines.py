"""Command lines in this process, each in a folder of its own that holds tiny experiments, data and runs."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import typer
import yaml
from outcomes import write_files

from raysim import Experiment, Simulation
from raysim.cli import app

TINY = """\
name: tiny
rounds: 1
cohort: 2
data: {source: {name: csv, path: FILES/a.csv, label: label, ignore: [kind]}, partition: {name: iid, clients: 3},
  validation: 0.2}
client: {steps: 1}
training: {engine: sequential}
execution: {executor: inprocess}
tracking: {report: false}
tuning: {space: {client.epochs: {low: 1, high: 9}}, trials: 1, sampler: random, confirm: {seeds: 0}}
"""
PRIVATE = """\
aggregation: {weights: uniform, stages: [{name: clip, max_norm: 1}, {name: gaussian, noise_multiplier: 1}]}
selection: poisson
"""
ADAPTED = """\
name: adapted
rounds: 1
cohort: 1
data: {source: {name: corpus, length: 8, min_characters: 30000}, partition: natural}
model:
  name: hugging_face
  config: {model_type: gpt2, n_embd: 8, n_layer: 1, n_head: 1}
  peft: {name: lora, r: 2}
client: {steps: 1}
training: {engine: sequential}
evaluation: {every: 0}
execution: {executor: inprocess}
tracking: {report: false}
"""
FAULTY = """\
from raysim.algorithms import Algorithm

class Faulty(Algorithm):
    def correct(self, grad, weights, b):
        if b.setting.round == 2:
            raise ValueError("boom")
"""
OWN = """\
import numpy as np
import torch
from torch import nn

data = (np.arange(120).reshape(30, 4).astype("float32") / 60, np.arange(30) % 3)

def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(4, 3)

def half(output, target):
    return nn.functional.cross_entropy(output, target, reduction="none") / 2

def margin(output, target):
    return output.max(dim=1).values
"""
HANDED = (
    "{rounds: 2, cohort: 2, data: {partition: {name: iid, clients: 3}, test: 0.2}, execution: {executor: inprocess}}"
)
TERMINAL = "terminal: "
"""In front of a command line that runs in a terminal."""


def parameters() -> list[str]:
    """Every argument and option of every command: `data show --png`, `run CONFIG`."""
    return [f"{path} {shown}".strip() for path, shown, _ in _walk(typer.main.get_command(app), "")]


def flags() -> dict[str, list[str]]:
    """The options without a value of each command."""
    found: dict[str, list[str]] = {}
    for path, shown, flag in _walk(typer.main.get_command(app), ""):
        if flag:
            found.setdefault(path, []).append(shown)
    return found


def _walk(command: object, path: str) -> Iterator[tuple[str, str, bool]]:
    """Path of a command, how its parameter is written, and whether that is a flag."""
    for one in command.params:
        option = one.opts[0].startswith("-")
        yield path, one.opts[0] if option else one.metavar or one.name.upper(), getattr(one, "is_flag", False)
    for name, below in getattr(command, "commands", {}).items():
        yield from _walk(below, f"{path} {name}".strip())


class CommandLines:
    """Runs each command line once."""

    def __init__(self, folder: Path) -> None:
        """Make the template of the folders, with runs: `done`, `adapted` of a transformer, `scalars` of fedkseed,
        `guarded` with private samples and canaries, `handed` of what `own.py` has, handed over,
        `broken` by a client, and `strange` for its other torch."""
        self._folder, self._template = folder, folder / "template"
        files = folder / "files"
        for made in (files, self._template, self._template / "begun"):
            made.mkdir()
        write_files(files)
        (self._template / "tiny.yaml").write_text(TINY.replace("FILES", str(files)))
        (self._template / "other.yaml").write_text(TINY.replace("FILES", str(files)).replace("tiny", "other"))
        (self._template / "private.yaml").write_text(TINY.replace("FILES", str(files)) + PRIVATE)
        (self._template / "adapted.yaml").write_text(ADAPTED)
        (self._template / "faulty.py").write_text(FAULTY)
        (self._template / "own.py").write_text(OWN)
        broken = f"algorithm: faulty:Faulty\n{TINY.replace('FILES', str(files)).replace('rounds: 1', 'rounds: 2')}"
        (self._template / "broken.yaml").write_text(broken)
        (self._template / "begun" / "study.yaml").touch()
        for name in ("mnist-a", "cifar-a"):
            (self._template / name).symlink_to(files / name)
        self.outcome = lru_cache(maxsize=None)(self._outcome)
        self._invoke(self._template, "run tiny.yaml rounds=2 --directory done")
        self._invoke(self._template, "run tiny.yaml rounds=2 algorithm=faulty:Faulty --directory broken")
        self._invoke(self._template, "run adapted.yaml --directory adapted")
        self._invoke(self._template, "run tiny.yaml 'algorithm={name: fedkseed, seeds: 3}' --directory scalars")
        private = "'client.privacy={clip: 1, noise_multiplier: 2}' 'aggregation.stages=[{name: canaries, first: 1}]'"
        self._invoke(self._template, f"run tiny.yaml {private} data.test=0.2 --directory guarded")
        self._hand_over()
        shutil.copytree(self._template / "done", self._template / "strange")
        environment = json.loads((self._template / "strange" / "environment.json").read_text())
        environment["bits"]["torch"] = "0.1"
        (self._template / "strange" / "environment.json").write_text(json.dumps(environment))
        chain = self._template / "strange" / "chain.jsonl"
        chain.write_text(chain.read_text().replace(torch.__version__, "0.1"))

    def _hand_over(self) -> None:
        """A run of what a program hands over, in place of what a configuration names."""
        own: dict[str, Any] = {}
        exec(OWN, own)
        given = {"model": own["model"](), "data": own["data"], "loss": own["half"], "metrics": [own["margin"]]}
        with Simulation(Experiment.parse(yaml.safe_load(HANDED)), directory=self._template / "handed", **given) as one:
            one.run()

    def _outcome(self, line: str) -> str:
        """What the command prints, its exit code, and the files that it leaves."""
        place = self._folder / f"place-{len(list(self._folder.iterdir()))}"
        shutil.copytree(self._template, place, symlinks=True)
        before = _files(place)
        printed, told, code = self._invoke(place, line)
        left = "\n".join(sorted(_files(place) - before))
        return f"stdout:\n{printed}stderr:\n{told}exit code {code}\nfiles:\n{left}\n"

    def _invoke(self, place: Path, line: str) -> tuple[str, str, object]:
        """What is printed on both streams, and the exit code."""
        os.chdir(place)
        stdout, stderr = (Stream(line.startswith(TERMINAL)) for _ in range(2))
        with (
            redirect_stdout(stdout),
            redirect_stderr(stderr),
            patch("sys.stdin", io.StringIO("q\n")),
            patch("raysim.serving.LivePage.wait", lambda page: None),  # as if Ctrl-C was pressed
            patch.dict(os.environ, RAYSIM_HOME=f"{place}/home"),
            pytest.raises(SystemExit) as left,
        ):
            app(shlex.split(line.removeprefix(TERMINAL)), prog_name="raysim")
        return stdout.getvalue(), stderr.getvalue(), left.value.code


class Stream(io.StringIO):
    """Keeps what is printed; in a terminal, or not."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def _files(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*") if not path.is_symlink()}

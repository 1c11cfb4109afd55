"""Code of a user's own that fails at one place of all where raysim calls it, in one way of several."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysim import Experiment
from raysim.algorithms import Algorithm

MODULE = '''\
import sys

import numpy as np
import torch
from torch import nn

from raysim.aggregation import UpdateStage
from raysim.algorithms import Algorithm, ClientVector
from raysim.selection import Selection
from raysim.training.metrics.metric import MeanMetric

PLACE, KIND = "{place}", "{kind}"


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class Unpicklable(Exception):
    def __init__(self, one, two):
        super().__init__(lambda: one)


def here(place):
    if place != PLACE or KIND.startswith("none"):
        return
    if KIND == "exit":
        sys.exit(0)
    if KIND == "group":
        raise ExceptionGroup("several", [ValueError("mine"), KeyError("mine")])
    raise {{
        "value": lambda: ValueError("mine"),
        "key": lambda: KeyError("mine"),
        "unspeakable": Unspeakable,
        "unpicklable": lambda: Unpicklable(1, 2),
        "lines": lambda: ValueError("mine\\n\\x1b[31mred\\x07" + "x" * 2**20),
        "empty": ValueError,
        "stop": StopIteration,
        "closed": GeneratorExit,
        "pressed": KeyboardInterrupt,
    }}[KIND]()


here("import")


class Net(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.output = nn.Linear(inputs, outputs)

    def forward(self, x):
        here("forward")
        if not x.is_meta and x.any():  # blank samples look at the model first
            here("forward in training" if self.training else "forward in evaluation")
        return self.output(x)


def model(input_shape, classes):
    here("model")
    return Net(input_shape[0], classes)


def source():
    here("source")
    generator = np.random.default_rng(0)
    return generator.normal(size=(60, 3)).astype(np.float32), np.arange(60) % 2


def deal(labels):
    here("partition")
    return [np.arange(len(labels))[i::4] for i in range(4)]


def loss(output, target):
    here("loss")
    if output.any():
        here("loss in training" if output.requires_grad else "loss in evaluation")
    return nn.functional.cross_entropy(output, target, reduction="none")


def choose(default, scores, /, *, trials, seed):
    here("chooser")
    return default


class Hits(MeanMetric):
    name, higher_is_better = "hits", True

    def __init__(self, info):
        here("metric")
        super().__init__(info)

    def measure(self, output, target, losses):
        if output.any():
            here("measure")
        return (output.argmax(1) == target).double()

    def value(self, sums):
        if sums[1]:
            here("value")
        return super().value(sums)


class Chosen(Selection):
    adaptive = True

    def __init__(self, *given):
        here("selection")
        super().__init__(*given)

    def first(self):
        here("first")
        return {{"seen": np.zeros(1)}}

    def cohort(self, round_number, state, measure):
        here("cohort")
        return np.arange(self.size)

    def ranges(self, clients):
        here("ranges")
        return self.train_ranges(clients)

    def after(self, round_number, state, clients, evaluated):
        here("after")
        return {{"seen": state["seen"] + 1}}


class Layer(UpdateStage):
    def __init__(self, columns):
        here("stage")
        super().__init__(columns)

    def fields(self, sent):
        here("stage fields")
        return sent

    def client_state(self):
        here("stage client_state")
        return ()

    def init(self, model):
        here("stage init")
        return {{}}

    def client(self, sent, ctx):
        here("stage client")
        return sent

    def wire(self, sent, ctx):
        here("stage wire")
        return None

    def server(self, mean, state, ctx):
        here("stage server")
        return mean, state, {{}}


class Rule(Algorithm):
    """FedAvg, but for one method."""

    paper = "-"

    def __init__(self, config, layout):
        here("algorithm")
        super().__init__(config, layout)

    def client_state(self):
        here("client_state")
        return (ClientVector("own", self.layout.size),) if self.personal else ()

def hook(self, *given, **named):
    here(PLACE)
    if PLACE != "correct":
        return getattr(Algorithm, PLACE)(self, *given, **named)


if PLACE in {hooks} and PLACE not in vars(Rule):
    setattr(Rule, PLACE, property(hook) if isinstance(vars(Algorithm)[PLACE], property) else hook)
'''

HOOKS = [
    name
    for name, member in vars(Algorithm).items()
    if not name.startswith("_") and (callable(member) or isinstance(member, property) or name == "correct")
]
"""Every method of the contract."""

IN_SELECTION = ("selection", "first", "cohort", "ranges", "after")
IN_STAGE = tuple(f"stage {name}" for name in ("fields", "client_state", "init", "client", "wire", "server"))
IN_CLIENTS = ("local", "correct", "send")

PLACES = {
    "import": r"[\w.]+: \w+:\w+: importing \w+ fails",
    "model": r"model\.name: \w+:model",
    "forward": r"model \w+:model does not accept inputs of shape \(3,\)",
    "forward in training": r"client \d, round 1",
    "forward in evaluation": r"round 1: evaluating samples 0 to 7 of the \w+ set: the model",
    "source": r"data\.source: \w+:source",
    "partition": r"data\.partition: \w+:deal",
    "loss": r"training\.loss: \w+:loss fails on outputs \[2, 2\] and targets \[2\]",
    "loss in training": r"client \d, round 1",
    "loss in evaluation": r"round 1: evaluating samples 0 to 7 of the \w+ set: training\.loss",
    "chooser": r"round 1: aggregation\.weights\.chooser \w+:choose",
    "metric": r"evaluation\.metrics: '\w+:Hits' cannot be made from the data's info alone",
    "measure": r"round 1: evaluating samples 0 to 7 of the \w+ set: metric \w+:Hits: contributions",
    "value": r"(\w.*: )?metric \w+:Hits: value",
    "selection": r"selection \w+:Chosen",
    "first": r"selection \w+:Chosen: first",
    "cohort": r"round 1: selection \w+:Chosen: cohort",
    "ranges": r"selection \w+:Chosen: ranges",
    "after": r"round 1: selection \w+:Chosen: after",
    "stage": r"stage \w+:Layer",
    **{name: rf"(\w.*: )?stage \w+:Layer: {name.removeprefix('stage ')}" for name in IN_STAGE},
    **{f"stage {name}": r"client \d, round 1: stage Layer: client" for name in ("client", "wire")},
    "algorithm": r"algorithm \w+:Rule",
    **{
        name: r"client \d, round 1" if name in IN_CLIENTS else rf"(\w.*: )?algorithm \w+:Rule: {name}" for name in HOOKS
    },
}
"""Every place where a user's code is called, and how an error names it."""

TOLD = {
    "value": "ValueError: mine",
    "key": "KeyError: 'mine'",
    "exit": r"SystemExit: 0 \(sys\.exit ends no run; raise an error instead\)",
    "unspeakable": r"Unspeakable: \(its message cannot be shown: str\(\) of it raises RuntimeError\)",
    "unpicklable": "Unpicklable: <function .*",
    "lines": r"ValueError: mine \\x1b\[31mred\\x07x+…",
    "empty": "ValueError",
    "group": r"ExceptionGroup: several \(2 sub-exceptions\), the first is ValueError: mine",
    "stop": "StopIteration",
    "closed": "GeneratorExit",
    "pressed": "KeyboardInterrupt",
}
"""Every kind of failure, and how it is told."""


@dataclass(frozen=True, slots=True)
class Failing:
    """A module in a folder, which fails at a place, and the experiment that calls all of it."""

    folder: Path
    place: str
    kind: str

    @property
    def name(self) -> str:
        """Of the module: no two are alike, for Python keeps what it imported."""
        return f"mine_{self.place.replace(' ', '_')}_{self.kind}"

    @property
    def pattern(self) -> str:
        """What the one line is to say."""
        return rf"^{PLACES[self.place]}: {TOLD[self.kind]}$"

    def write(self, more: str = "") -> None:
        """Write the module, with `more` at its end."""
        text = MODULE.format(place=self.place, kind=self.kind, hooks=tuple(HOOKS))
        (self.folder / f"{self.name}.py").write_text(text + more)

    def values(self, **execution: Any) -> dict[str, Any]:
        """The configuration; by default in this process."""
        learned = {"name": "learned", "trials": 1, "chooser": f"{self.name}:choose"}
        return {
            "name": "failing",
            "rounds": 2,
            "cohort": 1.0,
            "data": {
                "source": f"{self.name}:source",
                "partition": f"{self.name}:deal",
                "validation": 0.15,
                "test": 0.15,
                "holdout": 0.2,
            },
            "model": f"{self.name}:model",
            "selection": f"{self.name}:Chosen" if self.place in IN_SELECTION else "uniform",
            "algorithm": f"{self.name}:Rule",
            "aggregation": {
                "weights": learned if self.place == "chooser" else "samples",
                "stages": [f"{self.name}:Layer"] if self.place.startswith("stage") else [],
            },
            "training": {"loss": f"{self.name}:loss", "engine": "sequential"},
            "evaluation": {"metrics": [f"{self.name}:Hits"]},
            "execution": {"executor": "inprocess", **execution},
            "tracking": {"directory": str(self.folder / "runs"), "report": False},
        }

    def experiment(self, **execution: Any) -> Experiment:
        """The same, parsed."""
        return Experiment.parse(self.values(**execution))

"""`raysim list`: what can be chosen by name, read from the configuration's own classes."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, get_args, get_origin

import typer
from pydantic import BaseModel, Tag

from raysim.cli import printing
from raysim.cli.app import app, examples
from raysim.cli.json_outputs import emit
from raysim.cli.options import Json
from raysim.config import Experiment
from raysim.config.bundled import bundled_configs
from raysim.errors import ConfigError

KINDS: Mapping[str, str] = {
    "configs": "raysim run CONFIG",
    "datasets": "data.source",
    "partitioners": "data.partition",
    "transforms": "data.transforms",
    "splits": "data.split",
    "augmentations": "data.augmentation",
    "models": "model",
    "algorithms": "algorithm",
    "losses": "training.loss",
    "class-weights": "training.class_weights",
    "logits": "training.logits",
    "resampling": "client.resampling",
    "metrics": "evaluation.metrics",
    "optimizers": "client.optimizer",
    "schedules": "client.schedule",
    "weights": "aggregation.weights",
    "stages": "aggregation.stages",
    "protections": "aggregation.protection",
    "selections": "selection",
    "fleets": "systems.fleet",
    "availabilities": "systems.availability",
    "timetables": "systems.timetable",
    "observers": "tracking.observers",
    "tuned-weights": "tuning.weights",
    "samplers": "tuning.sampler",
    "pruners": "tuning.pruner",
}
"""Kinds of components, and the key (or argument) that chooses one."""

ALL = "all"
CUSTOM, IN_MEMORY = "custom", "in_memory"


@app.command("list", epilog=examples("raysim list", "raysim list algorithms", "raysim list partitioners"))
def list_(
    kind: Annotated[
        str | None, typer.Argument(metavar="KIND", show_default=False, help=f"One of {', '.join(KINDS)}, {ALL}.")
    ] = None,
    json: Json = False,
) -> None:
    """List datasets, models, algorithms and the rest, a line each.

    A name goes into the configuration as `model: mlp`, or with its options as `model: {name: mlp, hidden: [64]}`.
    """
    kind = None if kind == ALL else kind
    if kind is not None and kind not in KINDS:
        close = difflib.get_close_matches(kind, [*KINDS, ALL], n=1)
        remedy = f"did you mean {close[0]!r}?" if close else f"valid are {', '.join(KINDS)}, {ALL}"
        raise ConfigError(f"unknown kind {kind!r}; {remedy}")
    kinds = KINDS if kind is None else [kind]
    if json:
        from raysim.cli.json_outputs.catalogue import ListedKind, ListedName, ListOutput

        named = {one: tuple(ListedName(*entry) for entry in catalogue(one).items()) for one in kinds}
        emit(ListOutput(tuple(ListedKind(one, KINDS[one], names) for one, names in named.items())))
        return
    for i, one in enumerate(kinds):
        if i:
            printing.gap()
        printing.heading(f"{one} ({KINDS[one]})")
        printing.facts((f"  {name}", text) for name, text in catalogue(one).items())


def catalogue(kind: str) -> dict[str, str]:
    """Name and one line on every component of a kind."""
    if kind == "configs":
        return bundled_configs()
    if kind == "losses":
        from raysim.training.losses import list_losses

        return list_losses() | _custom("A function of (output, target): one loss a target.")
    if kind == "metrics":
        from raysim.training.metrics.resolve import list_metrics

        return list_metrics() | _custom("A `Metric` of your own.")
    chosen = dict(choices(Experiment))[KINDS[kind]]
    named = {name: _first_line(section) for name, section in chosen.items() if name not in (CUSTOM, IN_MEMORY)}
    named |= _descriptions(kind)
    return named | (_custom(_first_line(chosen[CUSTOM])) if CUSTOM in chosen else {})


def choices(section: type[BaseModel], path: str = "") -> Iterator[tuple[str, dict[str, type[BaseModel]]]]:
    """Every key below a section at which a component is chosen by name: its path, and the class of each name."""
    for name, field in section.model_fields.items():
        here = f"{path}.{name}" if path else name
        options = dict(_tagged(field.annotation))
        if options:
            yield here, options
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from choices(field.annotation, here)


def _tagged(annotation: Any) -> Iterator[tuple[str, type[BaseModel]]]:
    """Members of a union chosen by tag, wherever they are in an annotation."""
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        tags = [one.tag for one in metadata if isinstance(one, Tag)]
        if tags:
            yield tags[0], inner
            return
    for part in get_args(annotation):
        yield from _tagged(part)


_SHARED: Mapping[str, Mapping[str, str]] = {
    "optimizers": {
        "adam": "Adam, as `torch.optim.Adam`: weight decay added to the gradient.",
        "adamw": "AdamW, as `torch.optim.AdamW`: weight decay apart from the gradient.",
    },
    "weights": {
        "loss": "A client counts in proportion to the broadcast model's mean loss on its training samples.",
        "inverse_loss": "A client counts in inverse proportion to that loss: to 1/loss.",
    },
}
"""Names that share a section, each with a sentence of its own."""


def _descriptions(kind: str) -> dict[str, str]:
    """Descriptions that do not stand in the docstring of a section, which several names may share."""
    if kind == "datasets":
        from raysim.data.sources import SOURCES

        return {name: source.description for name, source in SOURCES.items()}
    if kind == "algorithms":
        from raysim.algorithms import ALGORITHMS

        return {name: f"{_first_line(rule)} {rule.paper}" for name, rule in ALGORITHMS.items()}
    return dict(_SHARED.get(kind, {}))


def _custom(text: str) -> dict[str, str]:
    return {"package.module:name": text}


def _first_line(thing: type) -> str:
    return (thing.__doc__ or "").strip().split("\n")[0]

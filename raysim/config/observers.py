"""The entries of `tracking.observers`: what follows a run besides the terminal."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag

from raysim.config.base import BY_NAME, SHORTHAND, CustomConfig, Section


class TerminalObserverConfig(Section):
    """A live table in a terminal, a live display in a notebook, a line a round elsewhere; on the standard error."""

    name: Literal["terminal"] = "terminal"


class PlainObserverConfig(Section):
    """A line a round on the standard error."""

    name: Literal["plain"] = "plain"


class JsonObserverConfig(Section):
    """A JSON object a line on the standard output: events `start`, `round`, `note` and `finish`."""

    name: Literal["json"] = "json"


class QuietObserverConfig(Section):
    """Warnings and errors alone, on the standard error."""

    name: Literal["quiet"] = "quiet"


class TensorBoardObserverConfig(Section):
    """Event files for TensorBoard: curves, distributions over clients, the configuration."""

    name: Literal["tensorboard"] = "tensorboard"
    folder: str | None = None
    """Where they go; by default the folder `tensorboard` of the run."""


class MlflowObserverConfig(Section):
    """A run of MLflow: parameters, metrics, model and report; trials of a study are its children."""

    name: Literal["mlflow"] = "mlflow"
    uri: str | None = None
    """Its tracking server, or `file:…`; by default that of MLFLOW_TRACKING_URI, else the folder `mlruns` beside the
    runs."""
    experiment: str | None = None
    """The experiment of MLflow; by default this one's name."""
    group: str | None = Field(None, min_length=1)
    """Runs of a group are children of one run with this name, as the trials of a study are of theirs."""
    artifacts: bool = True
    """Whether the model and the report are copied there at the end; those of trials are not."""


class WandbObserverConfig(Section):
    """A run of Weights & Biases, by default offline: `wandb sync` sends it later."""

    name: Literal["wandb"] = "wandb"
    project: str = Field("raysim", min_length=1)
    """The project."""
    entity: str | None = None
    """User or team; by default that of the key."""
    mode: Literal["offline", "online"] = "offline"
    """`online` needs a key (`wandb login`)."""
    group: str | None = Field(None, min_length=1)
    """Its group; by default trials of a study are a group with the study's name."""
    artifacts: bool = True
    """Whether the model and the report are logged at the end; those of trials are not."""


ObserverConfig = Annotated[
    Annotated[TerminalObserverConfig, Tag("terminal")]
    | Annotated[PlainObserverConfig, Tag("plain")]
    | Annotated[JsonObserverConfig, Tag("json")]
    | Annotated[QuietObserverConfig, Tag("quiet")]
    | Annotated[TensorBoardObserverConfig, Tag("tensorboard")]
    | Annotated[MlflowObserverConfig, Tag("mlflow")]
    | Annotated[WandbObserverConfig, Tag("wandb")]
    | Annotated[CustomConfig, Tag("custom")],
    BY_NAME,
    SHORTHAND,
]

"""What an algorithm is: what it changes on a client, what a client sends, and what the server does with the mean."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from raysim.aggregation import ClientVector as ClientVector
from raysim.aggregation import Field, ServerSgd
from raysim.arrays import Float32, Float64
from raysim.config import Experiment
from raysim.config.algorithm_base import AveragingConfig, BaseAlgorithmConfig
from raysim.config.client import ClientConfig, OptimizerConfig, SgdConfig, StepScheduleConfig
from raysim.config.fine_tuning import FineTuneConfig
from raysim.config.systems import BaseAsynchronousConfig
from raysim.errors import ConfigError
from raysim.training import Clients, Correction, FeatureLoss, LocalWork, ParameterLayout


class Algorithm(ABC):
    """A federated algorithm, written once as algebra on rows; as it stands, federated averaging.

    Contract: no method keeps anything on `self`; everything that lasts is server state, or what a client keeps. What
    runs on clients gets any k ≥ 1 of them as the rows of matrices and treats them alike and apart. It knows neither
    modules, devices nor actors.

    Override what differs. On the clients:

    - `local`: a client's round, as a program (`raysim.training.Clients`); by default one pass of local steps.
    - `correct`: changes the gradients of a local step in place (FedProx: `grad += mu * (weights - broadcast)`).
    - `fields`, `send`: what a client sends; every field is averaged over the cohort with the clients' weights.
    - `work`, `local_optimizer`: how much a client does, and with what.
    - `client_state`: what a client keeps from round to round, in `c.state`, changed in place.
    - `feature_loss`: what is added to the loss for a sample's representation, compared with other models'.
    - `client_model`: the model of each client's own; `fine_tune`: how clients train their model before they use it.

    On the server:

    - `check`: refuse experiments that the algorithm is not made for.
    - `first_model`, `init`, `apply`: the first model and state, and the next model from the averaged fields.
    """

    paper: ClassVar[str]
    """Where it was published."""
    neutral: ClassVar[tuple[str, ...] | None] = None
    """Overrides of an experiment with which it ends in the model of FedAvg; None where there are none."""
    columnwise: ClassVar[bool] = True
    """Whether `apply` treats columns apart. If so it is called on one range of columns after another, which it must not
    notice: vectors of P or T values come cut to the range, whatever else is in the state and the mean comes whole, and
    `layout` is the range's, of which it has but `size` and `trainable`. False: called once, on whole vectors."""
    broadcast_state: ClassVar[tuple[str, ...]] = ()
    """Vectors of the server's state that travel to the clients beside the model, in float32: `c.server`."""
    recorded: tuple[str, ...] = ()
    """Vectors of the server's state, of one value each, that are recorded in rounds.parquet under their names."""
    matrices: int = 0
    """How many matrices `[K, P]` `local` makes beside the rows (`Clients.new_rows`): memory is planned for them."""
    correct: Correction | None = None
    """Changes the gradients `[k, T]` of a local step in place, given the weights `[k, T]` and their clients: a method
    `correct(self, grad, weights, b)`. Where it looks at `b.broadcast` and `b.trainable` alone, it is compiled along."""

    def __init__(self, config: BaseAlgorithmConfig, layout: ParameterLayout) -> None:
        self.config, self.layout = config, layout
        momentum = config.server_momentum if isinstance(config, AveragingConfig) else 0.0
        self.server = ServerSgd(config.server_lr, momentum, layout.trainable)

    def check(self, experiment: Experiment) -> None:
        """Refuse an experiment that the algorithm is not made for.

        Raises:
            ConfigError: names the key and the remedy.
        """
        return

    def local(self, c: Clients) -> Mapping[str, Tensor]:
        """A client's round: from rows at the broadcast model to what the clients send, `[K, size]` for each field."""
        c.descend(self.correct)
        return self.send(c)

    def work(self, client: ClientConfig) -> LocalWork:
        """How much a client does in a round."""
        if client.batch_size == "full":
            return LocalWork(None, client.epochs, client.steps, drop_last=client.drop_last)
        poisson = None if client.privacy is None else client.privacy.most(client.batch_size)
        return LocalWork(client.batch_size, client.epochs, client.steps, drop_last=client.drop_last, poisson=poisson)

    def local_optimizer(self, client: ClientConfig) -> OptimizerConfig | None:
        """The local optimiser; None leaves the rows where they are, or to `local`."""
        return client.optimizer

    def client_state(self) -> tuple[ClientVector, ...]:
        """What each client keeps from round to round. It stays as it was where a client takes no step or is dropped."""
        return ()

    @property
    def links(self) -> str | None:
        """Who sends to whom, in a line, where clients do not all send to one server."""
        return None

    @property
    def values_down(self) -> int | None:
        """Values that a federation would send to a client in place of the model and of `broadcast_state`; None where it
        sends those."""
        return None

    def feature_loss(self) -> FeatureLoss | None:
        """What is added to every sample's loss for its representation; None if nothing is."""
        return None

    def fields(self) -> tuple[Field, ...]:
        """What a client sends."""
        return (Field("update", self.layout.size),)

    def send(self, c: Clients) -> Mapping[str, Tensor]:
        """The clients' records from their final rows: for each field a float32 tensor `[K, size]`.

        The rows are not read afterwards: a record may be computed in their place.
        """
        return {"update": c.update()}

    def client_model(self, broadcast: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        """The models `[k, P]` that clients with these states would use, given the broadcast model `[P]`.

        Beside what they keep, `state` has what they may read of the server's state, and their ids as `client`, int64
        `[k, 1]`.
        """
        raise NotImplementedError

    def first_model(self, model: Float32) -> Float32:
        """The model `[P]` before the first round, given the module's own first values."""
        return model

    @property
    def personal(self) -> bool:
        """Whether clients have a model of their own, `client_model`, that is evaluated on their holdouts."""
        return type(self).client_model is not Algorithm.client_model

    @property
    def fine_tune(self) -> FineTuneConfig | None:
        """What clients do with the model before they use it, where `evaluation.fine_tune` does not say."""
        return None

    def init(self, model: Float32) -> dict[str, Float64]:
        """The server's state before the first round, for a model `[P]`."""
        return self.server.init(model)

    def apply(
        self, model: Float32, state: Mapping[str, Float64], mean: Mapping[str, Float64]
    ) -> tuple[Float32, dict[str, Float64]]:
        """The next model `[P]` and state from the averaged fields; the arguments are only read."""
        return self.server.step(model, state, mean["update"])


def plain_sgd_only(experiment: Experiment, reason: str) -> None:
    """Refuse any other local optimiser.

    Raises:
        ConfigError: there is one; says the reason.
    """
    sgd = experiment.client.optimizer
    if not isinstance(sgd, SgdConfig) or sgd.momentum or sgd.weight_decay:
        raise ConfigError(f"{reason}; set client.optimizer to sgd, without momentum and weight_decay")
    if any(group.weight_decay for group in experiment.client.groups):
        raise ConfigError(f"{reason}; leave weight_decay out of client.groups")


def one_version_only(experiment: Experiment, reason: str) -> None:
    """Refuse timetables in which the clients of a step start from different versions of the model.

    Raises:
        ConfigError: there is one; says the reason.
    """
    timetable = experiment.systems.timetable
    if isinstance(timetable, BaseAsynchronousConfig):
        name = experiment.algorithm.name
        raise ConfigError(
            f"systems.timetable: {timetable.name} lets clients start from different versions of the model, and with "
            f"{name} {reason}; use another algorithm"
        )


def one_rate_only(experiment: Experiment, reason: str) -> None:
    """Refuse learning rates that differ between parameters, or between the steps of a round.

    Raises:
        ConfigError: there are some; says the reason.
    """
    if any(group.lr_scale != 1 for group in experiment.client.groups):
        raise ConfigError(f"client.groups: {reason}; leave out lr_scale")
    if isinstance(experiment.client.schedule, StepScheduleConfig):
        raise ConfigError(f"client.schedule: {reason}; use a schedule by rounds")


def known_lengths_only(experiment: Experiment, name: str) -> None:
    """Refuse local SGD whose length, in units of the learning rate, is not that of a round by itself.

    Raises:
        ConfigError: names the key and the remedy.
    """
    reason = f"{name} divides by how far steps of one learning rate get from rest"
    one_rate_only(experiment, reason)
    if experiment.client.optimizer.state == "keep":
        raise ConfigError(f"client.optimizer.state: {reason}; set it to reset")

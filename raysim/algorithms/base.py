"""What an algorithm is: what it changes on a client, what a client sends, and what the server does with the mean."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from raysim.aggregation import Field, ServerSgd
from raysim.arrays import Float32, Float64, Int64
from raysim.config import Experiment
from raysim.config.algorithm_base import AveragingConfig, BaseAlgorithmConfig
from raysim.config.client import ClientConfig, OptimizerConfig, SgdConfig
from raysim.config.fine_tuning import FineTuneConfig
from raysim.errors import ConfigError
from raysim.training import Batch, ClientContext, FeatureLoss, LocalWork, ParameterLayout


@dataclass(frozen=True, slots=True)
class ClientVector:
    """A vector that every client keeps from round to round.

    Attributes:
        size: values; P or T, or whatever else.
        initial: what it holds before the client's first round: zeros, or of the model that is broadcast in that round
            as many values, or these columns.
    """

    name: str
    size: int
    initial: Literal["zero", "model"] | Int64 = "zero"


class Algorithm(ABC):
    """A federated algorithm, written once as algebra on rows; as it stands, federated averaging.

    Contract: no method keeps anything on `self`; everything that lasts is server state. Client hooks get the `[k, …]`
    rows of any k ≥ 1 clients and treat them alike and apart. Hooks know neither modules, devices nor actors.

    Override what differs:

    - `work`, `local_optimizer`: how much a client does, and with what.
    - `candidates`: models to choose from by loss.
    - `start`: where the local steps begin, if not at the broadcast model.
    - `correct`: change the gradients of a local step in place (FedProx: `grad += mu * (rows - broadcast)`).
    - `solves`, `solve`: something else than local steps along gradients.
    - `feature_loss`, `peers`: add to the loss what a sample's representation says, compared with other models'.
    - `local_step`: take the step itself, in place of the optimiser; with `scratch`, rows to compute in.
    - `fields`, `send`: what a client sends; every field is averaged over the cohort with the clients' weights.
    - `first_model`, `init`, `apply`: the server's first model and state, and the next model from the averaged fields;
      `columnwise = False` where `apply` needs whole vectors (a norm, a maximum).
    - `client_state`: what a client keeps from round to round; hooks find it in `context.state` and change it in place.
    - `broadcast_state`: which of the server's vectors clients may read, in `context.server`.
    - `personal`, `client_model`: where clients end up with models of their own; `fine_tune` where they train the model
      that they got before they use it.
    - `check`: refuse experiments that the algorithm is not made for.
    """

    paper: ClassVar[str]
    """Where it was published."""
    neutral: ClassVar[tuple[str, ...] | None] = None
    """Overrides of an experiment at which it comes to the model of FedAvg; None where nothing does."""
    columnwise: ClassVar[bool] = True
    """Whether `apply` treats columns apart. If so it is called on one range of columns after another, which it must not
    notice: vectors of P or T values come cut to the range, whatever else is in the state and the mean comes whole, and
    `layout` is the range's, of which it has but `size` and `trainable`. False: called once, on whole vectors."""
    needs_loss: ClassVar[bool] = False
    """Whether clients look at the broadcast model's mean loss on their training samples: `context.loss`."""
    needs_anchor: bool = False
    """Whether clients look at the gradient of their whole shard at the broadcast model: `context.anchor`."""
    needs_reference: ClassVar[bool] = False
    """Whether `correct` looks at the gradients of the step's samples at the broadcast model: `context.reference`."""
    broadcast_state: ClassVar[tuple[str, ...]] = ()
    """Vectors of the server's state that travel to the clients beside the model, in float32: `context.server`."""
    personal: ClassVar[bool] = False
    """Whether clients keep a model of their own, `client_model`, that is evaluated on their holdouts."""
    solves: ClassVar[bool] = False
    """Whether `solve` takes the place of local steps."""
    stepwise: ClassVar[bool] = False
    """Whether `correct` or `local_step` looks at `context.step`."""
    scratch: ClassVar[tuple[str, ...]] = ()
    """Matrices `[k, P]` beside the rows that last for a round, `context.scratch`; all begin as the broadcast model."""
    turns: ClassVar[int] = 1
    """Times that a client goes through its round's steps, each begun by `start`: `context.turn`. `send` gets the last
    one's rows."""

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

    @property
    def sees_gradients(self) -> bool:
        """Whether a hook of its own may look at gradients; if none does, plain SGD steps without laying them out."""
        return any(self._has(hook) for hook in ("correct", "local_step", "send"))

    @property
    def takes_steps(self) -> bool:
        """Whether it takes local steps by itself, by `local_step`."""
        return self._has("local_step")

    def _has(self, hook: str) -> bool:
        return getattr(type(self), hook) is not getattr(Algorithm, hook)

    def work(self, client: ClientConfig) -> LocalWork:
        """How much a client does in a round."""
        batch_size = None if client.batch_size == "full" else client.batch_size
        return LocalWork(batch_size, client.epochs, client.steps, drop_last=client.drop_last)

    def local_optimizer(self, client: ClientConfig) -> OptimizerConfig | None:
        """The local optimiser; None leaves the client's row where it is, or to `local_step`."""
        return client.optimizer

    def client_state(self) -> tuple[ClientVector, ...]:
        """What each client keeps from round to round. It stays as it was where a client takes no step or is dropped."""
        return ()

    def candidates(self, server: Mapping[str, Tensor]) -> Sequence[Tensor]:
        """Models, each `[P]`, of which clients look at the mean losses on their training samples: `context.losses`."""
        return ()

    def start(self, rows: Tensor, context: ClientContext) -> None:
        """Change the rows `[k, P]` in place before the first step of a turn.

        They hold the broadcast model, and in later turns what the turn before came to.
        """
        return

    def correct(self, grad: Tensor, rows: Tensor, context: ClientContext) -> None:
        """Change the gradients `[k, T]` of a local step in place, given the weights `[k, T]`."""
        return

    def solve(self, rows: Tensor, samples: Sequence[Batch], orders: Sequence[Int64], context: ClientContext) -> Float64:
        """Do the clients' work in place of local steps, and leave what `send` needs in the rows `[k, P]`.

        Args:
            samples: all training samples of each client.
            orders: the samples of each client's steps, one after the other, by their position among them.

        Returns:
            The sums of their losses over the steps, `[k]`.
        """
        raise NotImplementedError

    def feature_loss(self) -> FeatureLoss | None:
        """What is added to every sample's loss for its representation; None if nothing is."""
        return None

    def peers(self, context: ClientContext) -> tuple[Tensor, ...]:
        """The models, each `[k, P]`, whose representations `feature_loss` compares a client's with."""
        return ()

    def local_step(self, grad: Tensor, rows: Tensor, context: ClientContext) -> None:
        """Take a local step: change the rows `[k, P]` in place, given the gradients `[k, T]` at them.

        Where it is overridden, it stands for `correct` and the local optimiser. The gradients may be used up.
        """
        raise NotImplementedError

    def fields(self) -> tuple[Field, ...]:
        """What a client sends."""
        return (Field("update", self.layout.size),)

    def send(self, rows: Tensor, context: ClientContext) -> Mapping[str, Tensor]:
        """The clients' records from their final rows `[k, P]`: for each field a float32 tensor `[k, size]`.

        Nobody looks at the rows afterwards: a record may be computed in their place.
        """
        return {"update": rows.sub_(context.broadcast)}  # `rows - broadcast`, without another matrix

    def client_model(self, broadcast: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        """The models `[k, P]` that clients with these states would use, given the broadcast model `[P]`.

        Beside what they keep, `state` has what they may read of the server's state.
        """
        raise NotImplementedError

    def first_model(self, model: Float32) -> Float32:
        """The model `[P]` before the first round, given the module's own first values."""
        return model

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

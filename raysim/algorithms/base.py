"""What an algorithm is: what it changes on a client, what a client sends, and what the server does with the mean."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from raysim.aggregation import Field, ServerSgd
from raysim.config.client import ClientConfig, OptimizerConfig
from raysim.config.server import Algorithm as AlgorithmConfig
from raysim.training import ClientContext, LocalWork, ParameterLayout

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


class Algorithm(ABC):
    """A federated algorithm, written once as algebra on rows; as it stands, federated averaging.

    Contract: no method keeps anything on `self`; everything that lasts is server state. Client hooks get the `[k, …]`
    rows of any k ≥ 1 clients and treat them alike and apart. Hooks know neither modules, devices nor actors.

    Override what differs:

    - `work`, `local_optimizer`: how much a client does, and with what.
    - `correct`: change the gradients of a local step in place (FedProx: `grad += mu * (rows - broadcast)`).
    - `fields`, `send`: what a client sends; every field is averaged over the cohort with the clients' weights.
    - `init`, `apply`: the server's state, and the next model from the averaged fields; `columnwise = False` where
      `apply` needs whole vectors (a norm, a maximum).
    """

    paper: ClassVar[str]
    """Where it was published."""
    columnwise: ClassVar[bool] = True
    """Whether `apply` treats columns apart. If so it is called on one range of columns after another, which it must not
    notice: vectors of P or T values come cut to the range, whatever else is in the state and the mean comes whole, and
    `layout` is the range's, of which it has but `size` and `trainable`. False: called once, on whole vectors."""

    def __init__(self, config: AlgorithmConfig, layout: ParameterLayout) -> None:
        self.config, self.layout = config, layout
        self.server = ServerSgd(config.server_lr, config.server_momentum, layout.trainable)

    @property
    def sees_gradients(self) -> bool:
        """Whether a hook of its own may look at gradients; if none does, plain SGD steps without laying them out."""
        return any(getattr(type(self), hook) is not getattr(Algorithm, hook) for hook in ("correct", "send"))

    def work(self, client: ClientConfig) -> LocalWork:
        """How much a client does in a round."""
        batch_size = None if client.batch_size == "full" else client.batch_size
        return LocalWork(batch_size, client.epochs, client.steps)

    def local_optimizer(self, client: ClientConfig) -> OptimizerConfig | None:
        """The local optimiser; None leaves the client's row at the broadcast model."""
        return client.optimizer

    def correct(self, grad: Tensor, rows: Tensor, context: ClientContext) -> None:
        """Change the gradients `[k, T]` of a local step in place, given the weights `[k, T]`."""
        return

    def fields(self) -> tuple[Field, ...]:
        """What a client sends."""
        return (Field("update", self.layout.size),)

    def send(self, rows: Tensor, context: ClientContext) -> Mapping[str, Tensor]:
        """The clients' records from their final rows `[k, P]`: for each field a float32 tensor `[k, size]`.

        Nobody looks at the rows afterwards: a record may be computed in their place.
        """
        return {"update": rows.sub_(context.broadcast)}  # `rows - broadcast`, without another matrix

    def init(self, model: Float32) -> dict[str, Float64]:
        """The server's state before the first round, for a model `[P]`."""
        return self.server.init(model)

    def apply(
        self, model: Float32, state: Mapping[str, Float64], mean: Mapping[str, Float64]
    ) -> tuple[Float32, dict[str, Float64]]:
        """The next model `[P]` and state from the averaged fields; the arguments are only read."""
        return self.server.step(model, state, mean["update"])

"""Decentralised learning: nodes with a model each, that take local steps and average with their neighbours.

- D-PSGD: Lian, Zhang, Zhang, Hsieh, Zhang & Liu, "Can Decentralized Algorithms Outperform Centralized Algorithms?",
  NeurIPS 2017, algorithm 1: X ← W (X + Δ), W doubly stochastic.
- Push-sum: Assran, Loizou, Ballas & Rabbat, "Stochastic Gradient Push for Distributed Deep Learning", ICML 2019,
  algorithm 1: X ← P (X + Δ), w ← P w, z_i = x_i / w_i, P column-stochastic; nodes train and are evaluated at z.

There is no server. What plays its part keeps the nodes' models, mixes them, and has their mean as its own model, which
is evaluated and exported. Sums are those of any round: with u_j = z_j + Δ_j / w_j - x̄ from the mean x̄ before the round,

    z_i ← x̄ + Σ_j a_ij u_j / Σ_j a_ij,    a_ij = W_ij, or P_ij w_j,

in fixed point, so that they have the same bits wherever nodes train, and on the full graph those of FedAvg. A node
whose update is lost takes no part in the round: it keeps its model, and what would go to it stays where it is.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np
from torch import Tensor

from raysim.aggregation import ClientRows, Field, FixedPoint, mean, nothing, weighed
from raysim.algorithms.base import Algorithm
from raysim.algorithms.topology import (
    Edges,
    NodeWeights,
    edges,
    matrix,
    mixing_weights,
    period,
    push_weights,
    spectral_gap,
)
from raysim.arrays import Bools, Float32, Float64, Int64
from raysim.config import Experiment
from raysim.config.gossip import DPsgdConfig, GossipConfig
from raysim.config.protection import NoProtectionConfig
from raysim.config.server import UniformConfig, UniformWeightsConfig
from raysim.config.systems import SynchronousConfig
from raysim.errors import ConfigError
from raysim.training import Clients, ParameterLayout, to_device

NODES, TURN = "nodes", "turn"
CONSENSUS = "gossip/consensus"
_SHOWN = 2_000
"""Nodes up to which a plan shows the spectral gap, which takes eigenvalues of a matrix of them."""


class Gossip(Algorithm):
    """What both have in common.

    State of the server: `nodes` `[n P]`, the models z, of float32 values; `turn` `[1]`, rounds so far;
    `gossip/consensus` `[1]`, √(1/n Σ_i ‖z_i - x̄‖²) after mixing.
    """

    columnwise = False
    broadcast_state: ClassVar[tuple[str, ...]] = (NODES,)
    recorded = (CONSENSUS,)
    matrices = 1
    scalars: ClassVar[int] = 0
    """Values that travel along an edge beside a model."""

    def __init__(self, config: GossipConfig, layout: ParameterLayout) -> None:
        super().__init__(config, layout)
        assert config.nodes is not None, "made concrete where the data are known"
        self.graph, self.nodes = config.graph, config.nodes

    def check(self, experiment: Experiment) -> None:
        name, aggregation, timetable = experiment.algorithm.name, experiment.aggregation, experiment.systems.timetable
        if experiment.algorithm.server_lr != 1:
            raise ConfigError(f"algorithm.server_lr: {name} has no server; leave it at 1")
        if not isinstance(experiment.selection, UniformConfig):
            raise ConfigError(f"selection: all nodes of {name} train in every round; set it to uniform")
        if not isinstance(aggregation.weights, UniformWeightsConfig):
            raise ConfigError(
                f"aggregation.weights: nodes of {name} weigh what they hear by the edges of their graph; set it to "
                "uniform"
            )
        if not isinstance(aggregation.protection, NoProtectionConfig):
            raise ConfigError(
                f"aggregation.protection: {aggregation.protection.name} hides addends from a server, and nodes of "
                f"{name} send their models to each other; remove it"
            )
        if changing := [stage.name for stage in aggregation.stages if stage.name != "measure"]:
            raise ConfigError(
                f"aggregation.stages: {changing[0]} stands between clients and a server, and {name} has none; remove it"
            )
        if not aggregation.exact:
            raise ConfigError(f"aggregation.exact: {name} mixes in fixed point only; set it to true")
        if experiment.client.privacy is not None:
            raise ConfigError(
                f"client.privacy: epsilon is accounted for what a server is sent, and neighbours in {name} see each "
                "other's models; remove it"
            )
        if not isinstance(timetable, SynchronousConfig):
            raise ConfigError(
                f"systems.timetable: nodes of {name} wait for their neighbours, and for no server with a "
                f"{timetable.name}; set it to synchronous"
            )
        parts = self.edges(0).components()
        if parts > 1 and self.graph.name != "one_peer":
            raise ConfigError(
                f"algorithm.graph: {self.graph.name} of {self.nodes} nodes falls into {parts} parts that never hear of "
                "each other; raise algorithm.graph.degree, or set another algorithm.graph.seed"
            )

    def edges(self, turn: int) -> Edges:
        """Those of a round, by the rounds before it."""
        return edges(self.graph, self.nodes, turn % period(self.graph, self.nodes))

    @abstractmethod
    def rows(
        self, there: Bools, state: Mapping[str, Float64]
    ) -> tuple[list[NodeWeights], NodeWeights, Mapping[str, Float64]]:
        """What each node's average is made of, what the mean model is, and the state that goes with the models.

        Args:
            there: which nodes sent something, `[n]`.
        """

    def mixing_matrix(self, turn: int = 0) -> Float64:
        """W, or P, of a round in which all nodes are there, `[n, n]`."""
        return matrix(self._weights(turn, np.ones(self.nodes, dtype=np.bool_)))

    @abstractmethod
    def _weights(self, turn: int, there: Bools) -> list[NodeWeights]: ...

    @property
    def links(self) -> str | None:
        sends, rounds = self.edges(0).sends, period(self.graph, self.nodes)
        least, most = int(sends.min()), int(sends.max())
        text = f"{self.graph.name} of {self.nodes:,} nodes, each of which sends its model to "
        text += f"{most:,}" if least == most else f"{least:,} to {most:,}"
        if rounds > 1:
            return f"{text}, others in each of {rounds} rounds"
        if self.nodes > _SHOWN:
            return text
        return f"{text}; the spectral gap of its weights is {spectral_gap(self.mixing_matrix()):.3g}"

    @property
    def values_down(self) -> int | None:
        return 0

    @property
    def _message(self) -> int:
        """Values along an edge."""
        return self.layout.values(self.layout.size) + self.scalars

    def _sent(self, round_number: int, clients: Int64) -> Int64:
        return self.edges(round_number - 1).sends[clients] * self._message

    def _received(self, round_number: int, clients: Int64) -> Int64:
        return self.edges(round_number - 1).receives[clients] * self._message

    def fields(self) -> tuple[Field, ...]:
        node = Field("node", 1, FixedPoint(32), constant=True, kept=True, sent=nothing)
        return Field("update", self.layout.size, kept=True, sent=self._sent, received=self._received), node

    def local(self, c: Clients) -> Mapping[str, Tensor]:
        own = to_device(c.clients, c.rows.device)
        start = c.server[NODES].view(-1, self.layout.size)[own]
        c.rows.copy_(start)
        c.descend()
        return {"update": self.moved(c, start), "node": own[:, None].to(c.rows.dtype)}

    def moved(self, c: Clients, start: Tensor) -> Tensor:
        """u `[k, P]` of nodes that went from `start` to the rows."""
        return c.update()

    def client_model(self, broadcast: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        return state[NODES].view(-1, self.layout.size)[state["client"][:, 0]]

    def init(self, model: Float32) -> dict[str, Float64]:
        return {NODES: np.tile(model.astype(np.float64), self.nodes), TURN: np.zeros(1), CONSENSUS: np.zeros(1)}

    def apply(
        self, model: Float32, state: Mapping[str, Float64], mean: Mapping[str, Float64]
    ) -> tuple[Float32, dict[str, Float64]]:
        here = mean["node.rows"].astype(np.int64)
        before = state[NODES].reshape(self.nodes, -1).astype(np.float32)
        there = np.zeros(self.nodes, dtype=np.bool_)
        there[here] = True
        far = before - model  # of those who lost their update, u without local steps
        far[here] = mean["update.rows"].reshape(len(here), -1)
        rows, centre, beside = self.rows(there, state)
        after, made = np.empty_like(before), dict[tuple[bytes, bytes], int]()
        for node, row in enumerate(rows):
            like = made.setdefault((row.nodes.tobytes(), row.weights.tobytes()), node)
            after[node] = self._averaged(model, far, row) if like == node else after[like]
        next_model = self._averaged(model, far, centre)
        square = 0.0
        for one in after:
            apart = one.astype(np.float64) - next_model
            square += float((apart * apart).sum())
        consensus = np.array([np.sqrt(square / self.nodes)])
        return next_model, {
            NODES: after.ravel().astype(np.float64),
            TURN: state[TURN] + 1,
            CONSENSUS: consensus,
            **beside,
        }

    def _averaged(self, model: Float32, far: Float32, row: NodeWeights) -> Float32:
        """The mean model moved by the weighted mean of some nodes' u, as a server's step would move it."""
        field, places = Field("update", len(model)), np.arange(len(row.nodes), dtype=np.int32)
        some = ClientRows(0, places, row.weights, {"update": far[row.nodes]})
        return self.server.step(model, {}, mean(weighed(some, row.weights, (field,)), (field,))["update"])[0]


class DPsgd(Gossip):
    """Decentralised SGD: x_i ← Σ_j W_ij (x_j + Δ_j), Δ_j from node j's local steps."""

    paper = "Lian et al. 2017, arXiv:1705.09056"

    def __init__(self, config: DPsgdConfig, layout: ParameterLayout) -> None:
        super().__init__(config, layout)
        self.mixing = config.mixing

    def check(self, experiment: Experiment) -> None:
        super().check(experiment)
        degree = self.edges(0).receives
        if self.mixing == "uniform" and degree.min() == degree.max():
            raise ConfigError(
                f"algorithm.mixing: all nodes of this {self.graph.name} have as many neighbours, so that uniform "
                "weights are those of metropolis; leave it out"
            )

    def _weights(self, turn: int, there: Bools) -> list[NodeWeights]:
        return mixing_weights(self.mixing, self.edges(turn), there)

    def rows(
        self, there: Bools, state: Mapping[str, Float64]
    ) -> tuple[list[NodeWeights], NodeWeights, Mapping[str, Float64]]:
        rows = self._weights(int(state[TURN][0]), there)
        heard = np.full(self.nodes, 1 / self.nodes)
        if not there.all():  # in a graph with directions a lost node is heard less than it hears
            heard = np.zeros(self.nodes)
            for row in rows:
                heard[row.nodes] += row.weights / self.nodes
        return rows, NodeWeights(np.arange(self.nodes), heard), {}


class PushSum(Gossip):
    """Stochastic gradient push: x_i ← Σ_j P_ij (x_j + Δ_j), w_i ← Σ_j P_ij w_j, z_i = x_i / w_i.

    State of the server beside that of `Gossip`: `mass` `[n]`, the weights w.
    """

    paper = "Assran et al. 2019, arXiv:1811.10792"
    broadcast_state = (NODES, "mass")
    scalars = 1

    def moved(self, c: Clients, start: Tensor) -> Tensor:
        mass = c.server["mass"][to_device(c.clients, c.rows.device)]
        return c.rows.sub_(start).div_(mass[:, None]).add_(start.sub_(c.broadcast))

    def init(self, model: Float32) -> dict[str, Float64]:
        return {**super().init(model), "mass": np.ones(self.nodes)}

    def _weights(self, turn: int, there: Bools) -> list[NodeWeights]:
        return push_weights(self.edges(turn), there)

    def rows(
        self, there: Bools, state: Mapping[str, Float64]
    ) -> tuple[list[NodeWeights], NodeWeights, Mapping[str, Float64]]:
        mass = state["mass"]
        pushed = [
            replace(row, weights=row.weights * mass[row.nodes]) for row in self._weights(int(state[TURN][0]), there)
        ]
        after = np.array([row.weights.sum() for row in pushed])
        centre = NodeWeights(np.arange(self.nodes), _normalised(mass))
        return [replace(row, weights=_normalised(row.weights)) for row in pushed], centre, {"mass": after}


def _normalised(weights: Float64) -> Float64:
    """Weights that sum to 1; of equal ones exactly 1 / n each."""
    ratio = weights / weights.max()
    found: Float64 = ratio / ratio.sum()
    return found

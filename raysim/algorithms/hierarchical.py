"""Federated averaging in a hierarchy: clients, edges, a cloud.

Liu, Zhang, Song & Letaief, "Client-Edge-Cloud Hierarchical Federated Learning" (HierFAVG), ICC 2020, algorithm 1: an
edge averages the models of its clients after κ1 local steps, and the cloud those of the edges after κ2 of their rounds.

A round is one of the edges'. With E_l the model of edge l and p_k the weights of its clients in the round,

    E_l ← E_l + Σ p_k (w_k - E_l) / Σ p_k,     and in every κ2-th round     w ← w + η Σ_l q_l (E_l - w),  E_l ← w,

q_l the share of the edge in all weights since the cloud's last round: with the paper's full participation, that of its
samples. An edge of which no client takes part in a round keeps its model. The cloud's w is the server's model.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from raysim.aggregation import OF_PARTS, PART, PART_WEIGHTS, Field
from raysim.algorithms.base import Algorithm
from raysim.arrays import Float32, Float64
from raysim.config import Experiment
from raysim.config.edges import HierFavgConfig
from raysim.config.protection import NoProtectionConfig
from raysim.config.server import LearnedWeightsConfig
from raysim.config.systems import SynchronousConfig
from raysim.errors import ConfigError
from raysim.training import Clients, ParameterLayout

UP, DOWN = "edges/wire_up", "edges/wire_down"


class HierFavg(Algorithm):
    """Two levels of FedAvg: edges average every round, the cloud every κ2-th.

    State of the server: `edges` `[L P]`, the edges' models, of float32 values; `shares` `[L]`, weights since the last
    round of the cloud; `turn` `[1]`, rounds so far; `edges/wire_up`, `edges/wire_down` `[1]`, bytes from and to edges.
    """

    paper = "Liu et al. 2020, arXiv:1905.06641"
    neutral = ("algorithm.edge_rounds=1",)
    columnwise = False
    broadcast_state = ("edges",)
    recorded = (UP, DOWN)
    matrices = 1

    def __init__(self, config: HierFavgConfig, layout: ParameterLayout) -> None:
        super().__init__(config, layout)
        self.edges, self.every = config.edges, config.edge_rounds

    def check(self, experiment: Experiment) -> None:
        aggregation, timetable = experiment.aggregation, experiment.systems.timetable
        if not isinstance(aggregation.protection, NoProtectionConfig):
            raise ConfigError(
                f"aggregation.protection: {aggregation.protection.name} has one sum a round, and hierfavg one for each "
                "edge; remove it"
            )
        if isinstance(aggregation.weights, LearnedWeightsConfig):
            raise ConfigError(
                "aggregation.weights: learned ones try means of all clients, and in hierfavg edges have means of their "
                "own; set it to samples or uniform"
            )
        if changing := [stage.name for stage in aggregation.stages if stage.name != "measure"]:
            raise ConfigError(
                f"aggregation.stages: {changing[0]} stands around one sum a round, and hierfavg has one for each edge; "
                "remove it"
            )
        if experiment.rounds % self.every:
            raise ConfigError(
                f"rounds: the cloud averages after every {self.every} (algorithm.edge_rounds), and the last ones of "
                f"{experiment.rounds} would be lost; use a multiple"
            )
        if not isinstance(timetable, SynchronousConfig):
            raise ConfigError(
                f"systems.timetable: edges of hierfavg wait for all of their clients, and {timetable.name} does not; "
                "set it to synchronous"
            )

    @property
    def links(self) -> str | None:
        every = "every round" if self.every == 1 else f"every {self.every} rounds"
        return f"clients send to {self.edges:,} edges in every round, edges to the cloud in {every}"

    @property
    def values_down(self) -> int | None:
        return self.layout.values(self.layout.size)

    def fields(self) -> tuple[Field, ...]:
        return Field("update", self.layout.size, parts=self.edges), PART

    def local(self, c: Clients) -> Mapping[str, Tensor]:
        edge = torch.from_numpy(c.part).to(c.rows.device)
        start = c.server["edges"].view(self.edges, -1)[edge]
        c.rows.copy_(start)
        c.descend()
        return {"update": c.rows.sub_(start), PART.name: edge[:, None].to(c.rows.dtype)}

    def init(self, model: Float32) -> dict[str, Float64]:
        edges = np.tile(model.astype(np.float64), self.edges)
        numbers = {name: np.zeros(1) for name in ("turn", UP, DOWN)}
        return {"edges": edges, "shares": np.zeros(self.edges), **numbers, **self.server.init(model)}

    def apply(
        self, model: Float32, state: Mapping[str, Float64], mean: Mapping[str, Float64]
    ) -> tuple[Float32, dict[str, Float64]]:
        before, moves = (found.reshape(self.edges, -1) for found in (state["edges"], mean["update" + OF_PARTS]))
        edges, shares = (before + moves).astype(np.float32), state["shares"] + mean[PART_WEIGHTS]
        kept = {name: vector.copy() for name, vector in state.items()}
        kept |= {"turn": state["turn"] + 1, "shares": shares, UP: np.zeros(1), DOWN: np.zeros(1)}
        if kept["turn"][0] % self.every:
            return model.copy(), kept | {"edges": edges.ravel().astype(np.float64)}
        message = 4.0 * self.layout.values(self.layout.size)
        kept |= {UP: np.array([message * np.count_nonzero(shares)]), DOWN: np.array([message * self.edges])}
        move = mean["update"]
        if self.every > 1:
            move = np.zeros(len(model))
            for edge, share in zip(edges, shares / shares.sum(), strict=True):
                move += share * (edge.astype(np.float64) - model)
        next_model, after = self.server.step(model, state, move)
        edges_after = np.tile(next_model.astype(np.float64), self.edges)
        return next_model, kept | {"edges": edges_after, "shares": np.zeros(self.edges), **after}

"""Membership of clients: who was in a round's cohort, told by the change of the model that everybody sees."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from raysim.arrays import Float64
from raysim.attacking.messages import adds_noise, change, check_seen, message, without_noise
from raysim.errors import RunError
from raysim.privacy.attacks import Membership, membership
from raysim.replaying import Replay, Say
from raysim.rounds.lease import Lease
from raysim.selection.cohort import draw_round


@dataclass(frozen=True, slots=True)
class AttackedRound:
    """Who took part in a round, told by an attacker that has the models before and after it and the clients' samples.

    Attributes:
        round: that was attacked.
        members, others: clients of the cohort, and clients beside it.
        found: how well scores tell them apart.
    """

    round: int
    members: int
    others: int
    found: Membership

    def facts(self) -> dict[str, Any]:
        """For programs."""
        return {
            "round": self.round, "members": self.members, "others": self.others, **self.found.facts(),
            "tpr_at_1_percent": self.found.low,
        }  # fmt: skip


def attack_round(
    run: str | Path, *, round: int, clients: int = 200, model: nn.Module | None = None, data: Any = None,
    tell: Say = lambda text: None,
) -> AttackedRound:  # fmt: skip
    """Tell the clients of a round from others by the change of the model.

    The attacker of differential privacy: it knows the data of all clients that are tried, hence what each would send,
    and that all of the cohort is among them; it sees the model change, and estimates which messages are in that
    (`participation_scores`). Noise, the clients' own too, is not known to it.

    Args:
        run: the run directory.
        round: that is attacked, from 1.
        clients: beside the cohort that are tried, at most, spread evenly over the ids.
        model: the module that the run was started with, if it was handed over.
        data: the arrays that the run was started with, if they were handed over.
        tell: is told what is being done, a line at a time.

    Raises:
        RunError: there is no such round, its cohort is empty or has all clients, clients send no update, or what they
            send cannot be computed without their noise.
    """
    replay = Replay(run, model=model, data=data)
    task, prepared = replay.before(round, None, tell), replay.prepared
    check_seen(replay)
    bare = without_noise(replay, model, data)
    if bare is None and adds_noise(prepared.experiment):
        raise RunError(f"{run}: what clients send cannot be computed without the noise that they add")
    beside = np.setdiff1d(np.arange(prepared.federation.population), task.clients)
    if not len(task.clients) or not len(beside):
        raise RunError(f"{run}: the cohort of round {round} is {'empty' if len(beside) else 'all clients'}")
    some = beside[np.unique(np.linspace(0, len(beside) - 1, min(clients, len(beside))).astype(np.int64))]
    tried = np.union1d(task.clients, some)
    drawn = draw_round(prepared.experiment, prepared.federation, prepared.work, round, tried)
    drawn = drawn.only(drawn.steps > 0)
    tell(f"computing what {len(drawn.clients)} clients would send in round {round}")
    sent = np.stack([
        message(replay, Lease.of(drawn, np.array([place])), bare) for place in range(len(drawn.clients))
    ])  # fmt: skip
    inside = np.isin(drawn.clients, task.clients)
    scores = participation_scores(change(replay, task)[: sent.shape[1]], sent, int(inside.sum()))
    return AttackedRound(round, int(inside.sum()), int((~inside).sum()), membership(scores[inside], scores[~inside]))


def participation_scores(change: Float64, sent: Float64, cohort: int) -> Float64:
    """Linear estimate `[n]`, of least expected square error, of whether each client is in the mean.

    The change is taken for the mean of `cohort` of the messages and noise of one variance, which is what the messages
    cannot explain of the change.

    Args:
        change: of the model, `[P]`.
        sent: what each client would send, `[n, P]`.
        cohort: clients that took part, all of them among the n.
    """
    own, share = sent / cohort, cohort / len(sent)
    gram = own @ own.T
    rest = change - share * own.sum(axis=0)
    explained = own.T @ np.linalg.lstsq(gram, own @ rest, rcond=1e-10)[0]
    noise = float(((rest - explained) ** 2).sum()) / max(len(rest) - len(sent), 1)
    ridge = noise / (share * (1 - share)) + 1e-10 * float(np.trace(gram)) / len(sent)
    found: Float64 = share + np.linalg.solve(gram + ridge * np.eye(len(sent)), own @ rest)
    return found

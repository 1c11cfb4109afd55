"""Outputs of attacks and audits of runs: `raysim privacy samples`, `invert`, `membership` and `neighbours`."""

from __future__ import annotations

from dataclasses import dataclass

from raysim.attacking import Method, Sees


@dataclass(frozen=True, slots=True)
class SamplesOutput:
    """What samples of a run's clients are promised.

    Attributes:
        clients: that took part.
        delta: of epsilon.
        largest_epsilon: of the client that protects its samples least.
        median_epsilon: over the clients.
        smallest_epsilon: of the client that protects them most.
        most_steps: local steps of a client in all rounds.
    """

    clients: int
    delta: float
    largest_epsilon: float
    median_epsilon: float
    smallest_epsilon: float
    most_steps: int


@dataclass(frozen=True, slots=True)
class InversionOutput:
    """How well samples were reconstructed.

    Attributes:
        client: that was attacked.
        round: that it took part in.
        method: how its gradient was inverted.
        sees: what the attacker has: the client's message, or the models before and after the round.
        samples: of the client.
        steps: that it took in the round.
        reconstructed: samples.
        error: mean squared error of each.
        psnr: peak signal-to-noise ratio of each in decibels, for values in [0, 1].
        mean_error: mean of `error`.
        guess_error: mean squared error of the best constant guess, which needs no attack.
        unprotected_error: mean squared error where the client neither clips nor adds noise; null where it adds none.
    """

    client: int
    round: int
    method: Method
    sees: Sees
    samples: int
    steps: int
    reconstructed: int
    error: tuple[float, ...]
    psnr: tuple[float, ...]
    mean_error: float
    guess_error: float
    unprotected_error: float | None = None


@dataclass(frozen=True, slots=True)
class MembershipOutput:
    """How well training samples can be told from others, or with `--round` the clients of a round.

    Attributes:
        members: training samples that were tried, or clients of the round.
        others: test samples that were tried, or clients that were not in the round.
        round: the last one of the model, or the one that was asked for.
        auc: area under the ROC curve; 0.5 is chance.
        auc_low: lower end of its 95 % interval.
        auc_high: upper end of it.
        advantage: the largest difference of true and false positive rates; 0 is chance.
        tpr_at_1_percent: true positive rate where the false one is 1 %; 0.01 is chance.
        member_loss: mean loss of training samples; null with `--round`.
        other_loss: mean loss of test samples; null with `--round`.
    """

    members: int
    others: int
    round: int
    auc: float
    auc_low: float
    auc_high: float
    advantage: float
    tpr_at_1_percent: float
    member_loss: float | None = None
    other_loss: float | None = None


@dataclass(frozen=True, slots=True)
class NeighboursOutput:
    """How well runs with and without one client can be told apart.

    Attributes:
        client: that is left out.
        runs: with it, and as many without.
        distance: mean distance of the two models of a seed.
        auc: area under the ROC curve of telling them apart; 0.5 is chance.
        auc_low: lower end of its 95 % interval.
        auc_high: upper end of it.
        advantage: the largest difference of true and false positive rates; 0 is chance.
        epsilon_at_least: what the runs refute at a confidence of 95 %.
        delta: of epsilon.
        loss_with: mean loss of the client's samples under models that were trained with it.
        loss_without: the same without it.
    """

    client: int
    runs: int
    distance: float
    auc: float
    auc_low: float
    auc_high: float
    advantage: float
    epsilon_at_least: float
    delta: float
    loss_with: float
    loss_without: float

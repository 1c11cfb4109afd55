"""The privacy of a run, derived from its stages and its sampler before anything starts; what cannot be is refused."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np

from raysim.aggregation import Aggregation
from raysim.config import Experiment
from raysim.config.privacy import PrivacyConfig
from raysim.data import Federation
from raysim.errors import ConfigError
from raysim.privacy import (
    ExampleReleases,
    PrivacyAccount,
    PrivacyPlan,
    Sampling,
    StepSchedule,
    account_for,
    account_for_examples,
    require_dp_accounting,
    sampling_of,
)
from raysim.rounds.plan import Timetable
from raysim.tracking.headline import headline_metric

_READS_LOSSES = ("power_of_choice", "oort")
_OF_THE_SERVER = ("validation/", "test/")


def plan_privacy(
    experiment: Experiment,
    aggregation: Aggregation,
    federation: Federation,
    cohort: int,
    repeats: int,
    timetable: Timetable | None = None,
) -> PrivacyPlan | None:
    """What the noise of the stages is worth, else that of the clients on gradients of their samples; None where there
    is neither.

    Args:
        aggregation: of the experiment.
        federation: the clients.
        cohort: clients of a round.
        repeats: rounds for which the algorithm keeps a cohort.
        timetable: in place of the selection, where it is asynchronous.

    Raises:
        ConfigError: something is asked for that this noise or this sampler does not give, or the run would read
            private data outside of its noise.
    """
    config = experiment.privacy
    mechanisms = [stage.mechanism for stage in aggregation.stages if stage.mechanism is not None]
    sampling = sampling_of(experiment, federation.population, cohort, repeats)
    of_examples = not mechanisms and experiment.client.privacy is not None
    if timetable is not None and (mechanisms or of_examples):
        plans = islice(timetable.plans(), experiment.rounds)
        # The server has seen what came too late as well.
        steps = (np.concatenate([plan.clients, plan.late]) if of_examples else plan.clients for plan in plans)
        sampling = StepSchedule.of(steps, federation.population, cohort, each_noised=of_examples)
    if of_examples:
        return _planned(experiment, _of_examples(experiment, sampling, federation), keyed=True)
    if not mechanisms:
        if config != PrivacyConfig():
            raise ConfigError(
                "privacy: no stage of aggregation.stages adds noise, so there is nothing to account for; remove the "
                "section, or add such a stage"
            )
        return None
    if experiment.selection.name in _READS_LOSSES:
        raise ConfigError(
            f"selection: {experiment.selection.name} selects by the clients' losses, private data that no noise "
            "covers; set it to poisson, uniform or round_robin"
        )
    keyed = any(stage.mechanism is not None and stage.inexact is None for stage in aggregation.stages)
    return _planned(experiment, account_for(mechanisms, sampling, config), keyed=keyed)


def _of_examples(experiment: Experiment, clients: Sampling, federation: Federation) -> PrivacyAccount | str:
    """The account of single samples, of the client that has the fewest: they are in its batches most often."""
    config, client = experiment.client.privacy, experiment.client
    assert config is not None
    assert isinstance(client.batch_size, int), "batches are Poisson, of an expected size"
    assert client.steps is not None, "batches are drawn by themselves"
    sizes = federation.sizes("train")
    fewest = int(sizes[sizes > 0].min(initial=int(sizes.max(initial=1))))
    batches = Sampling("everyone" if fewest <= client.batch_size else "poisson", fewest, min(client.batch_size, fewest))
    releases = ExampleReleases(client.steps, clients, config.most(client.batch_size))
    return account_for_examples(config.noise_multiplier, batches, releases, experiment.privacy)


def _planned(experiment: Experiment, account: PrivacyAccount | str, *, keyed: bool) -> PrivacyPlan:
    rounds, budget = experiment.rounds, experiment.privacy.budget
    if isinstance(account, str):
        if budget is not None:
            raise ConfigError(f"privacy.budget: there is no epsilon to spend: {account}")
        return PrivacyPlan(None, account, rounds, rounds, None, keyed)
    if account.needs_dp_accounting:
        require_dp_accounting()
    last = rounds if budget is None else account.last_round(budget, rounds)
    if not last:
        raise ConfigError(
            f"privacy.budget: {budget:g} does not allow one round, whose epsilon is {account.epsilon(1):.4g}; raise "
            "it, or the noise"
        )
    return PrivacyPlan(account, "", rounds, last, budget, keyed)


def check_stopping(experiment: Experiment, measured: Sequence[str]) -> None:
    """Refuse a private run that stops by what it measures of its clients.

    Raises:
        ConfigError: names the metric.
    """
    stop = experiment.stop
    if stop.target is None and stop.patience is None:
        return
    metric = headline_metric(measured, experiment)
    if metric is not None and not metric.startswith(_OF_THE_SERVER):
        raise ConfigError(
            f"stop: {metric} is measured on private data of the clients, which no noise covers; set stop.metric to one "
            "of the server's own sets, such as validation/loss"
        )

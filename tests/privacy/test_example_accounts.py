"""Epsilon of single samples, whose clients add noise to the gradients of Poisson batches."""

from __future__ import annotations

from math import inf

import pytest

from raysim import Experiment
from raysim.config.privacy import PrivacyConfig
from raysim.errors import ConfigError
from raysim.execution.preparation.prepare import prepare_job
from raysim.privacy import (
    ExampleReleases,
    Mechanism,
    PrivacyAccount,
    PrivacyPlan,
    Sampling,
    account_for,
    account_for_examples,
    gaussian_epsilon,
)


def account(largest: int = 100, clients: str = "everyone", accountant: str = "pld") -> PrivacyAccount:
    sampler = Sampling(clients, 40, 40 if clients == "everyone" else 10)  # type: ignore[arg-type]
    config = PrivacyConfig(delta=1e-5, accountant=accountant)  # type: ignore[arg-type]
    releases = ExampleReleases(8, sampler, largest)
    found = account_for_examples(1.0, Sampling("poisson", 100, 10), releases, config)
    assert isinstance(found, PrivacyAccount)
    return found


def test_every_batch_of_every_round_is_a_release() -> None:
    one = account_for([Mechanism("gaussian", 1.0)], Sampling("poisson", 100, 10), PrivacyConfig(delta=1e-5))
    assert isinstance(one, PrivacyAccount)
    assert account().epsilon(3) == pytest.approx(one.epsilon(24), abs=1e-5)
    assert account(clients="round_robin").epsilon(5) == pytest.approx(one.epsilon(16), abs=1e-5)
    assert account(clients="poisson").epsilon(3) == account().epsilon(3)  # a cohort hides no sample from the server


@pytest.mark.parametrize("accountant", ["pld", "rdp"])
def test_batches_that_are_cut_short_cost_more(accountant: str) -> None:
    free, hardly, often = (account(largest, accountant=accountant).epsilon(3) for largest in (100, 45, 12))
    assert free == pytest.approx(hardly, rel=1e-3)
    assert often > 1.1 * free
    if accountant == "rdp":
        assert often == inf  # a cut in most batches


def test_the_batches_of_a_client_with_few_samples_have_all_of_them() -> None:
    releases = ExampleReleases(8, Sampling("everyone", 4, 4), 30)
    found = account_for_examples(5.0, Sampling("everyone", 9, 9), releases, PrivacyConfig(delta=1e-5))
    assert isinstance(found, PrivacyAccount)
    assert found.epsilon(2) == pytest.approx(gaussian_epsilon(4 / 5.0, 1e-5))


def of(*overrides: str) -> PrivacyPlan:
    found = prepare_job(Experiment.from_yaml("privacy/dp_sgd_digits", overrides)).privacy
    assert found is not None
    return found


def test_a_run_accounts_for_the_samples_of_its_smallest_client() -> None:
    plan = of("training.engine=sequential")
    assert plan.account is not None
    assert plan.account.sampling == Sampling("poisson", 119, 12)  # 1,437 samples over 12 clients
    assert plan.account.examples is not None
    assert plan.account.examples.batches(30) == 8 * 30
    assert plan.account.epsilon(30) < 20
    assert plan.metric == "privacy/example_epsilon"
    assert "with or without one sample" in plan.sentence


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("privacy.hypothetical_cohort=12", "privacy.hypothetical_cohort: scales noise on sums over clients"),
        ("privacy.budget=0.01", "privacy.budget: 0.01 does not allow one round"),
    ],
)
def test_what_samples_do_not_have_is_refused(override: str, line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        of("training.engine=sequential", override)


def test_gradients_without_noise_have_no_epsilon() -> None:
    assert of("training.engine=sequential", "client.privacy.noise_multiplier=0").why == "noise of 0 is no protection"

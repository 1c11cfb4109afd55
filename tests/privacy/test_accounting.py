"""Epsilons against published values, and against what each mechanism does."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import skellam as skellam_noise

from raysim.aggregation.mechanism import IntegerNoise, Mechanism
from raysim.config.privacy import PrivacyConfig
from raysim.errors import ConfigError
from raysim.privacy import PrivacyAccount, Sampling, account_for, renyi
from raysim.privacy.factorisation import banded_square_root, sensitivity, tree_sensitivity
from raysim.privacy.gaussian import gaussian_epsilon, gaussian_epsilon_of_zcdp, zcdp_epsilon

MNIST = Sampling("poisson", 60000, 256)
"""Samples of 60,000 examples in batches of 256: the set-up of TensorFlow Privacy's tutorial."""


def account(kind: str, noise: float, config: PrivacyConfig | None = None, **more: object) -> PrivacyAccount:
    sampling = Sampling(kind, 1000, 100)  # type: ignore[arg-type]
    found = account_for([Mechanism("gaussian", noise, **more)], sampling, config or PrivacyConfig(delta=1e-5))  # type: ignore[arg-type]
    assert isinstance(found, PrivacyAccount)
    return found


@pytest.mark.parametrize(
    ("noise", "steps", "legacy", "pld"),
    [(1.1, 14062, 3.01, 2.391), (1.3, 3515, 1.19, 0.869), (0.7, 10546, 7.10, 5.643), (0.7, 16406, 8.68, 7.099)],
)
def test_published_epsilons_of_poisson_samples(noise: float, steps: int, legacy: float, pld: float) -> None:
    for accountant, digits, published in (("legacy", 2, legacy), ("pld", 3, pld)):
        config = PrivacyConfig(delta=1e-5, accountant=accountant)  # type: ignore[arg-type]
        found = account_for([Mechanism("gaussian", noise)], MNIST, config)
        assert isinstance(found, PrivacyAccount)
        assert round(found.epsilon(steps), digits) == published


def test_a_sample_of_fixed_size_costs_more_than_a_poisson_sample() -> None:
    """N = 1,000, m = 100, 100 rounds, noise of 1 over what replacing one client moves the sum by, twice a norm."""
    assert round(account("fixed_size", 2.0).epsilon(100), 2) == 14.05
    assert account("fixed_size", 2.0).adjacency == "replace_one"
    most = account_for([Mechanism("gaussian", 2.0)], Sampling("fixed_size", 100, 99), PrivacyConfig(delta=1e-5))
    assert isinstance(most, PrivacyAccount)
    assert most.epsilon(3) == pytest.approx(gaussian_epsilon(2 * np.sqrt(3) / 2.0, 1e-5))
    rdp = PrivacyConfig(delta=1e-5, accountant="rdp")
    assert round(account("poisson", 1.0, rdp).epsilon(100), 2) == 7.90
    assert account("poisson", 1.0).epsilon(100) < 7.90


def test_published_zcdp_of_banded_noise() -> None:
    """Gboard: 400 bands over 2,000 rounds, scaled to a sensitivity of 1 for 5 participations, of which 3 happen."""
    coefficients = banded_square_root(400)
    noise = 1.411 * sensitivity(coefficients, 2000, 400, 5)
    rho = sensitivity(coefficients, 2000, 484, 3) ** 2 / (2 * noise**2)
    full = float(np.linalg.norm(coefficients))
    assert rho < 3 * full**2 / (2 * noise**2) * (1 + 1e-12)
    columns = 1.411 * np.sqrt(5)  # of equal norm, as in the published matrix
    assert 3 / (2 * columns**2) == pytest.approx(0.1506840301548885, rel=1e-14)
    assert round(gaussian_epsilon_of_zcdp(0.1506840301548885, 1e-10), 4) == 3.4240
    assert zcdp_epsilon(0.1506840301548885, 1e-10) > 3.4240  # of any mechanism of this ρ


@pytest.mark.parametrize(("sigma", "published"), [(4.22, 1.001), (1.54, 3.008), (0.541, 10.002)])
def test_published_epsilons_of_one_gaussian_release(sigma: float, published: float) -> None:
    """Andrew et al., "One-shot Empirical Privacy Estimation for Federated Learning": δ = 1e-6."""
    assert round(gaussian_epsilon(1 / sigma, 1e-6), 3) == published


def test_rounds_without_sampling_are_one_gaussian_release() -> None:
    everyone = account("everyone", 4.0)
    assert everyone.epsilon(9) == pytest.approx(gaussian_epsilon(3 / 4.0, 1e-5))
    assert everyone.zcdp(9) == pytest.approx(9 / 32)
    replaced = account("everyone", 4.0, PrivacyConfig(delta=1e-5, adjacency="replace_one"))
    assert replaced.epsilon(9) == pytest.approx(gaussian_epsilon(6 / 4.0, 1e-5))
    robin = account("round_robin", 4.0)
    assert robin.epsilon(10) == pytest.approx(gaussian_epsilon(1 / 4.0, 1e-5))
    assert robin.epsilon(11) == pytest.approx(gaussian_epsilon(np.sqrt(2) / 4.0, 1e-5))


def test_releases_of_one_round_are_one_release() -> None:
    two = account_for([Mechanism("gaussian", 1.0), Mechanism("gaussian", 2.0)], MNIST, PrivacyConfig(delta=1e-6))
    one = account_for([Mechanism("gaussian", 1 / np.sqrt(1.25))], MNIST, PrivacyConfig(delta=1e-6))
    assert isinstance(two, PrivacyAccount)
    assert isinstance(one, PrivacyAccount)
    assert two.epsilon(5) == pytest.approx(one.epsilon(5), rel=1e-6)


def test_what_a_framework_without_a_sampler_may_claim_is_far_more() -> None:
    found = account("poisson", 1.0)
    assert found.without_amplification(100) == pytest.approx(gaussian_epsilon(10.0, 1e-5))
    assert found.epsilon(100) < found.without_amplification(100) / 10
    from dp_accounting import GaussianDpEvent, SelfComposedDpEvent
    from dp_accounting.rdp import RdpAccountant

    flower = RdpAccountant()  # as flwr.supercore.rdp_accountant has it
    flower.compose(SelfComposedDpEvent(GaussianDpEvent(1.0), 100))
    assert found.as_flower(100) == pytest.approx(flower.get_epsilon(1e-5))


@pytest.mark.parametrize("kind", ["banded", "blt", "tree"])
def test_correlated_noise_counts_participations_and_no_amplification(kind: str) -> None:
    shape = {"banded": {"coefficients": (1.0, 0.5)}, "blt": {"output_scale": (0.3,), "buf_decay": (0.9,)}, "tree": {}}
    mechanism = Mechanism(kind, 3.0, **shape[kind])  # type: ignore[arg-type]
    robin, poisson = (
        account_for([mechanism], Sampling(sampler, 100, 20), PrivacyConfig(delta=1e-5))  # type: ignore[arg-type]
        for sampler in ("round_robin", "poisson")
    )
    assert isinstance(robin, PrivacyAccount)
    assert isinstance(poisson, PrivacyAccount)
    assert not poisson.amplified
    if kind == "banded":  # columns 1, 6 and 11 of norm √1.25
        assert robin.epsilon(15) == pytest.approx(gaussian_epsilon(np.sqrt(3 * 1.25) / 3, 1e-5))
        assert poisson.epsilon(2) == pytest.approx(gaussian_epsilon(np.sqrt(1 + 1.5**2) / 3, 1e-5))
    assert robin.epsilon(5) < robin.epsilon(6) < poisson.epsilon(6)


def test_the_bound_of_a_tree_is_one_over_its_nodes() -> None:
    assert [tree_sensitivity(n, n) ** 2 for n in (1, 2, 3, 4, 7, 8)] == pytest.approx([1, 2, 2, 3, 3, 4])
    every = np.zeros(15)  # nodes of the tree over 8 rounds of which all are taken part in
    every[:8], every[8:12], every[12:14], every[14] = 1, 2, 4, 8
    assert tree_sensitivity(8, 1) == pytest.approx(np.linalg.norm(every))
    assert tree_sensitivity(8, 4, restart=4) ** 2 == pytest.approx(2 * 3)  # once in each of two trees


def test_noise_on_integers_is_bounded_by_its_exact_divergence() -> None:
    noise, values = IntegerNoise(3.0, 3.0, 1, 1), np.arange(-3000, 3000)
    bound = renyi.skellam(noise, 5.0)
    here, moved = (skellam_noise.logpmf(values - by, 112.5, 112.5) for by in (0, 3))
    kept = np.isfinite(here) & np.isfinite(moved)
    for order in (2, 8, 32):
        exact = np.logaddexp.reduce(order * moved[kept] + (1 - order) * here[kept]) / (order - 1)
        assert exact <= bound[order == renyi.ORDERS][0] <= exact * 1.1
    alone = renyi.discrete_gaussian(noise, 5.0)
    np.testing.assert_allclose(alone, renyi.gaussian(1 / 5.0))
    shared = renyi.discrete_gaussian(IntegerNoise(3.0, 3.0, 1000, 1000), 5.0)
    assert (shared > alone).all()


def test_a_sample_of_any_mechanism_is_bounded_from_above() -> None:
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
    from dp_accounting.rdp import RdpAccountant

    exact = RdpAccountant(orders=renyi.ORDERS)
    exact.compose(PoissonSampledDpEvent(0.05, GaussianDpEvent(2.0)))
    bound = renyi.poisson_sampled(renyi.gaussian(0.5), 0.05)
    assert (bound >= exact.rdp * (1 - 1e-9)).all()
    assert bound[0] < renyi.gaussian(0.5)[0] / 100


def test_noise_on_integers_and_laplace_noise_have_epsilons() -> None:
    integers = IntegerNoise(300.0, 40.0, 100, 1000)
    for kind in ("skellam", "discrete_gaussian"):
        mechanism = Mechanism(kind, 2.0, adds="clients", integers=integers)  # type: ignore[arg-type]
        sampled, everyone = (
            account_for([mechanism], Sampling(sampler, 1000, cohort), PrivacyConfig(delta=1e-5))  # type: ignore[arg-type]
            for sampler, cohort in (("poisson", 100), ("everyone", 1000))
        )
        assert isinstance(sampled, PrivacyAccount)
        assert isinstance(everyone, PrivacyAccount)
        assert sampled.accountant == "rdp"
        assert everyone.epsilon(10) == pytest.approx(gaussian_epsilon(np.sqrt(10) / 2.0, 1e-5), rel=0.1)
        assert sampled.epsilon(10) < everyone.epsilon(10) / 2
    found = account_for([Mechanism("laplace", 10.0)], Sampling("everyone", 10, 10), PrivacyConfig(delta=1e-9))
    assert isinstance(found, PrivacyAccount)
    assert found.epsilon(1) == pytest.approx(0.1, abs=2e-3)


def test_noise_of_each_client_hides_its_data_from_those_who_see_its_message() -> None:
    mechanisms = [Mechanism("gaussian", 4.0, adds="each_client"), Mechanism("gaussian", 1.0)]
    found = account_for(mechanisms, Sampling("poisson", 100, 10), PrivacyConfig(delta=1e-5))
    assert isinstance(found, PrivacyAccount)
    assert found.adjacency == "replace_one"
    assert found.epsilon(4) == pytest.approx(gaussian_epsilon(2 * 2 / 4.0, 1e-5))


def test_a_curve_is_exact_where_it_says_and_never_too_low() -> None:
    found = account("poisson", 1.0)
    curve = found.curve(200)
    assert len(curve.rounds) <= 33
    assert curve.rounds[-1] == 200
    assert curve.at(200) == found.epsilon(200)
    assert all(curve.at(number) >= found.epsilon(number) for number in (2, 33, 150))
    assert account("everyone", 1.0).curve(200).rounds.tolist() == list(range(1, 201))


def test_noise_that_hides_nothing_has_an_epsilon_that_says_so() -> None:
    assert 1e18 < account("poisson", 1e-10).epsilon(3) < float("inf")
    assert account("poisson", 0.2).epsilon(3) < account("poisson", 0.1999).epsilon(3)


def test_a_budget_names_the_last_round_before_the_first() -> None:
    found = account("poisson", 1.0)
    last = found.last_round(3.0, 200)
    assert found.epsilon(last) <= 3.0 < found.epsilon(last + 1)
    assert found.last_round(0.1, 200) == 0
    assert found.last_round(1e3, 200) == 200


@pytest.mark.parametrize(
    ("sampler", "mechanisms", "why"),
    [
        ("other", [Mechanism("gaussian", 1.0)], "reads private data"),
        ("poisson", [Mechanism("gaussian", 0.0)], "is no protection"),
        ("poisson", [Mechanism("gaussian", 1.0), Mechanism("laplace", 1.0)], "beside other noise"),
    ],
)
def test_what_has_no_account_says_why(sampler: str, mechanisms: list[Mechanism], why: str) -> None:
    sampling = Sampling(sampler, 100, 10, "the selection reads private data" if sampler == "other" else "")  # type: ignore[arg-type]
    found = account_for(mechanisms, sampling, PrivacyConfig())
    assert isinstance(found, str)
    assert why in found


@pytest.mark.parametrize(
    ("sampler", "config", "line"),
    [
        ("poisson", {"delta": 0.01}, "privacy.delta: 0.01 lets one of 1,000 clients be published; set it below 0.001"),
        (
            "fixed_size",
            {"adjacency": "add_remove"},
            "privacy.adjacency: a cohort of a fixed size .* set it to replace_one",
        ),
        ("fixed_size", {"accountant": "pld"}, "privacy.accountant: a sample of a fixed size has no privacy loss"),
        ("poisson", {"adjacency": "replace_one", "accountant": "rdp"}, "privacy.adjacency: Rényi .* accountant to pld"),
        ("poisson", {"hypothetical_cohort": 50}, "hypothetical_cohort: 50 is not between the cohort .100. and"),
        ("poisson", {"hypothetical_cohort": 5000}, "hypothetical_cohort: 5000 is not between"),
    ],
)
def test_what_a_sampler_does_not_have_is_refused(sampler: str, config: dict[str, object], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        account_for([Mechanism("gaussian", 1.0)], Sampling(sampler, 1000, 100), PrivacyConfig(**config))  # type: ignore[arg-type]


def test_a_hypothetical_cohort_is_accounted_for_in_place_of_the_real_one() -> None:
    found = account("poisson", 1.0, PrivacyConfig(delta=1e-5, hypothetical_cohort=500))
    assert found.hypothetical == 500
    assert found.sampling.rate == 0.5

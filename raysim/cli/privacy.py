"""`raysim privacy`: what noise is worth, how much of it an epsilon takes, and whether a chain really adds it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from raysim.cli import printing
from raysim.cli.app import Debug, app, examples
from raysim.cli.exit_codes import FOUND
from raysim.cli.json_outputs import emit
from raysim.cli.options import Config, Json, Overrides, read_experiment
from raysim.config.parsing import values_of
from raysim.errors import ConfigError

if TYPE_CHECKING:
    from raysim.privacy import PrivacyAccount
    from raysim.privacy.plan import PrivacyFacts

SHOWN = 20
"""Rounds of a curve that are printed."""


class Sampler(StrEnum):
    """How cohorts are drawn."""

    POISSON = "poisson"
    UNIFORM = "uniform"
    ROUND_ROBIN = "round_robin"


class Accounting(StrEnum):
    """What composes the rounds."""

    PLD = "pld"
    RDP = "rdp"
    LEGACY = "legacy"


_ALONE = ", in place of a CONFIG."

Noise = Annotated[
    float | None, typer.Option(min=0, help=f"Multiplier of Gaussian noise on sums{_ALONE}", show_default=False)
]
Population = Annotated[int | None, typer.Option(min=2, help=f"Clients of the federation{_ALONE}", show_default=False)]
Cohort = Annotated[int | None, typer.Option(min=1, help=f"Clients of a round{_ALONE}", show_default=False)]
Delta = Annotated[
    float | None,
    typer.Option(help=f"By default population^-1.1, at most 1e-5{_ALONE}", show_default=False),
]
Selection = Annotated[
    Sampler | None,
    typer.Option(help="How cohorts are drawn, in place of a CONFIG; by default poisson.", show_default=False),
]
By = Annotated[Accounting | None, typer.Option(help="What composes rounds, in place of a CONFIG.", show_default=False)]
Rounds = Annotated[
    int | None, typer.Option(min=1, help="Rounds; by default those of CONFIG, or 100.", show_default=False)
]

commands = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
app.add_typer(commands, name="privacy", help="Epsilon by round, noise for an epsilon, an audit of noise.")


@commands.command(
    short_help="Print epsilon by round.",
    epilog=examples(
        "raysim privacy curve privacy/dp_fedavg_digits",
        "raysim privacy curve --noise-multiplier 1.1 --population 60000 --cohort 256 --rounds 14062 --delta 1e-5",
    ),
)
def curve(
    config: Config = None,
    overrides: Overrides = None,
    noise_multiplier: Noise = None,
    population: Population = None,
    cohort: Cohort = None,
    rounds: Rounds = None,
    selection: Selection = None,
    delta: Delta = None,
    accountant: By = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Print epsilon by round, of CONFIG as it would run or of Gaussian noise with these numbers."""
    numbers = _Numbers(population, cohort, selection, delta, accountant, noise_multiplier)
    account, planned = _account("privacy curve", config, overrides, numbers)
    last = rounds or planned
    found = account.curve(last)
    if json:
        from raysim.cli.json_outputs.privacy import CurveOutput, EpsilonPoints

        points = EpsilonPoints(tuple(found.rounds.tolist()), tuple(found.epsilons.tolist()))
        emit(CurveOutput(**values_of(_facts(account, last)), curve=points))
        return
    _print(account, last)
    step = max(1, len(found.rounds) // SHOWN)
    chosen = sorted({*range(0, len(found.rounds), step), len(found.rounds) - 1})
    printing.gap()
    printing.table(
        {"round": "right", "epsilon": "right"}, [[int(found.rounds[i]), f"{found.epsilons[i]:.4f}"] for i in chosen]
    )


@commands.command(
    short_help="Print the least noise for an epsilon.",
    epilog=examples(
        "raysim privacy calibrate privacy/dp_fedavg_digits --epsilon 4",
        "raysim privacy calibrate --epsilon 2 --population 1000 --cohort 50 --rounds 200 --delta 1e-5",
    ),
)
def calibrate(
    config: Config = None,
    overrides: Overrides = None,
    epsilon: Annotated[float, typer.Option(min=1e-6, help="The most that all rounds may spend.")] = 1.0,
    population: Population = None,
    cohort: Cohort = None,
    rounds: Rounds = None,
    selection: Selection = None,
    delta: Delta = None,
    accountant: By = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Print the least noise multiplier that stays within an epsilon, in place of the one in CONFIG."""
    numbers = _Numbers(population, cohort, selection, delta, accountant, None if config else 1.0)
    account, planned = _account("privacy calibrate", config, overrides, numbers)
    from raysim.privacy.calibration import calibrated

    last = rounds or planned
    found = calibrated(account, epsilon, last)
    if json:
        emit(_facts(found, last))
        return
    if len(found.mechanisms) == 1:  # rounded up: less noise would cost more
        found = replace(found, mechanisms=(replace(found.mechanisms[0], noise_multiplier=_up(found.noise_multiplier)),))
    _print(found, last)


def _up(value: float) -> float:
    """The next larger number of four digits."""
    digit = 10.0 ** (math.floor(math.log10(value)) - 3)
    return float(f"{math.ceil(value / digit) * digit:.4g}")


@commands.command(
    short_help="Tell releases with and without one client apart.",
    epilog=examples(
        "raysim privacy audit privacy/dp_fedavg_digits",
        "raysim privacy audit privacy/dp_fedavg_digits --trials 50000 --json",
    ),
)
def audit(
    config: Config = None,
    overrides: Overrides = None,
    trials: Annotated[int, typer.Option(min=100, help="Releases with one client, and as many without.")] = 10_000,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Tell one round's releases with and without one client apart, and compare with what is claimed.

    Exits with 1 where less noise was found than is accounted for.
    """
    experiment = read_experiment(config, overrides, command="privacy audit")
    from raysim.execution.preparation.prepare import prepare_job
    from raysim.privacy.audit import CONFIDENCE, audit_mechanism
    from raysim.privacy.deriving import default_delta
    from raysim.selection.cohort import expected_weight

    prepared = prepare_job(experiment)
    delta = prepared.experiment.privacy.delta or default_delta(prepared.federation.population)
    weight = expected_weight(prepared.experiment, prepared.federation)
    found = audit_mechanism(
        prepared.aggregation, expected_weight=weight, delta=delta, trials=trials, seed=prepared.experiment.seed
    )
    if json:
        from raysim.cli.json_outputs.privacy import AuditOutput

        emit(AuditOutput.of(found))
    else:
        title = f"one round's releases with one client and without it, {trials:,} times each ({CONFIDENCE:.0%})"
        printing.facts([("", title)])
        columns = ("delta", "claimed epsilon", "proven: more than", "if Gaussian: more than")
        rows = [
            [f"{one.delta:.3g}", *(f"{value:.4g}" for value in (one.claimed, one.lower, one.lower_if_gaussian))]
            for one in found.findings
        ]
        printing.table(dict.fromkeys(columns, "right"), rows)
        verdict = "no contradiction" if found.holds else "there is less noise than is claimed"
        printing.facts([("noise multiplier found", f"{found.deviation:.4g}"), ("verdict", verdict)])
    if not found.holds:
        raise typer.Exit(FOUND)


@dataclass(frozen=True, slots=True)
class _Numbers:
    """What stands in place of a configuration; None where it was not given."""

    population: int | None
    cohort: int | None
    selection: Sampler | None
    delta: float | None
    accountant: Accounting | None
    noise_multiplier: float | None


def _account(
    command: str, config: str | None, overrides: list[str] | None, numbers: _Numbers
) -> tuple[PrivacyAccount, int]:
    """The account of a configuration as it would run, or of the numbers; and the rounds."""
    if config is None:
        return _of_numbers(numbers), 100
    for name in numbers.__dataclass_fields__:
        if getattr(numbers, name) is not None:
            flag = name.replace("_", "-")
            raise ConfigError(f"--{flag}: CONFIG says it; change it by KEY=VALUE, or leave CONFIG out")
    experiment = read_experiment(config, overrides, command=command)
    from raysim.execution.preparation.prepare import prepare_job

    plan = prepare_job(experiment).privacy
    if plan is None:
        raise ConfigError(f"{config}: no stage of aggregation.stages adds noise")
    if plan.account is None:
        raise ConfigError(f"{config}: {plan.sentence}")
    return plan.account, plan.last


def _of_numbers(numbers: _Numbers) -> PrivacyAccount:
    from raysim.config import Experiment
    from raysim.privacy import Mechanism, PrivacyAccount, account_for, require_dp_accounting, sampling_of

    noise, population, cohort = numbers.noise_multiplier, numbers.population, numbers.cohort
    if noise is None or population is None or cohort is None:
        missing = [("noise-multiplier", noise), ("population", population), ("cohort", cohort)]
        flags = ", ".join(f"--{flag}" for flag, value in missing if value is None)
        raise ConfigError(f"no CONFIG given, which {flags} could stand in place of")
    if cohort > population:
        raise ConfigError(f"--cohort: {cohort} is more than the population of {population}")
    chosen = None if numbers.accountant is None else numbers.accountant.value
    wanted = {"delta": numbers.delta, "accountant": chosen}
    selection = (numbers.selection or Sampler.POISSON).value
    experiment = Experiment.parse({"selection": selection, "privacy": wanted}, where="raysim privacy")
    sampling = sampling_of(experiment, population, cohort)
    found = account_for([Mechanism("gaussian", noise)], sampling, experiment.privacy)
    if not isinstance(found, PrivacyAccount):
        raise ConfigError(f"--noise-multiplier: {found}")
    if found.needs_dp_accounting:
        require_dp_accounting()
    return found


def _facts(account: PrivacyAccount, rounds: int) -> PrivacyFacts:
    from raysim.privacy import PrivacyPlan
    from raysim.privacy.plan import privacy_facts

    assumed = PrivacyPlan(account, "", rounds, rounds, None, keyed=True).assumptions
    return privacy_facts(account, rounds, assumptions=assumed)


def _print(account: PrivacyAccount, rounds: int) -> None:
    from raysim.privacy.plan import accountant_text, adjacency_text, cohorts_text, noise_texts, unamplified_text

    plain = unamplified_text(account, rounds)
    printing.facts(
        [
            ("epsilon", f"{account.epsilon(rounds):.4g} at delta {account.delta:.3g} after {rounds:,} rounds"),
            *([("", f"hypothetical: cohorts of {account.hypothetical:,}")] if account.hypothetical is not None else []),
            *(("noise", text) for text in noise_texts(account)),
            ("cohorts" if account.examples is None else "batches", cohorts_text(account)),
            ("neighbours", adjacency_text(account)),
            ("by", accountant_text(account)),
            *([] if plain is None else [("", plain)]),
        ]
    )

"""`raysim privacy samples|invert|membership|canaries|neighbours`: what a run protects, gives away, and kept."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raysim.cli import printing
from raysim.cli.app import Debug, examples
from raysim.cli.json_outputs import emit
from raysim.cli.options import Json, Run
from raysim.cli.privacy import commands
from raysim.config.parsing import values_of

if TYPE_CHECKING:
    from raysim.attacking import AttackedModel, AttackedRound
    from raysim.evidence import Found

Client = Annotated[int, typer.Option(help="Id of the client.")]
Unkept = Annotated[
    bool, typer.Option("--no-keep", help="Do not keep what is found in the run's folder for its report.")
]
OfDelta = Annotated[float, typer.Option(min=1e-300, max=0.5, help="Delta of epsilon.")]


class Seen(StrEnum):
    """What the attacker sees."""

    MESSAGE = "message"
    MODEL = "model"


class Method(StrEnum):
    """How a gradient is inverted."""

    COSINE = "cosine"
    EUCLIDEAN = "euclidean"
    LINEAR = "linear"


@commands.command(
    short_help="Print epsilon of each client's samples.",
    epilog=examples("raysim privacy samples runs/dp-sgd-digits-20250102-030405"),
)
def samples(run: Run, delta: OfDelta = 1e-5, json: Json = False, debug: Debug = False) -> None:
    """Epsilon of each client's samples in a run with client.privacy, by the steps that the client took."""
    from raysim.auditing import private_clients
    from raysim.cli.json_outputs.attacks import SamplesOutput

    _print(SamplesOutput(**private_clients(run, delta).facts()), json=json)


@commands.command(
    short_help="Reconstruct samples from what a client sent.",
    epilog=examples("raysim privacy invert runs/quickstart-20250102-030405 --client 17 --round 3"),
)
def invert(
    run: Run,
    client: Client,
    round: Annotated[int, typer.Option(help="Round that the client took part in, from 1.")],
    method: Annotated[Method, typer.Option(help="How its gradient is inverted.")] = Method.COSINE,
    sees: Annotated[
        Seen, typer.Option(help="What the attacker sees: the client's message, or the model before and after.")
    ] = Seen.MESSAGE,
    most: Annotated[int, typer.Option(min=1, max=256, help="Samples to reconstruct, at most.")] = 8,
    picture: Annotated[
        Path | None, typer.Option(help="Draw reconstructed images beside the originals here (.png, .svg).")
    ] = None,
    no_keep: Unkept = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Reconstruct samples from the message that a client sent in a round, which is computed once more."""
    from raysim.attacking import draw_inversion, invert_update
    from raysim.cli.json_outputs.attacks import InversionOutput

    say = partial(typer.echo, err=True)
    found = invert_update(run, client=client, round=round, method=method.value, sees=sees.value, most=most, tell=say)
    if picture is not None:
        draw_inversion(found, picture)
    _show(run, found, InversionOutput(**found.facts()), keep=not no_keep, json=json)


@commands.command(
    short_help="Tell training samples from others, or who took part.",
    epilog=examples(
        "raysim privacy membership runs/quickstart-20250102-030405",
        "raysim privacy membership runs/quickstart-20250102-030405 --round 3",
    ),
)
def membership(
    run: Run,
    round: Annotated[
        int | None, typer.Option(help="Tell the clients of this round from others instead.", show_default=False)
    ] = None,
    no_keep: Unkept = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Tell training samples from test samples by their loss under the model of a finished run.

    With --round tell clients that took part in it from others, by what each would have sent and how the model changed.
    """
    from raysim.attacking import attack_model, attack_round
    from raysim.cli.json_outputs.attacks import MembershipOutput

    found: AttackedModel | AttackedRound
    found = attack_model(run) if round is None else attack_round(run, round=round, tell=partial(typer.echo, err=True))
    _show(run, found, MembershipOutput(**found.facts()), keep=not no_keep, json=json)


@commands.command(
    short_help="Estimate epsilon from canaries in a run.",
    epilog=examples("raysim privacy canaries runs/canaries-20250102-030405"),
)
def canaries(
    run: Run, delta: OfDelta = 1e-5, no_keep: Unkept = False, json: Json = False, debug: Debug = False
) -> None:
    """Estimate epsilon from how much the model of a finished run kept of its canaries."""
    from raysim.auditing import audit_canaries

    found = audit_canaries(run, delta=delta)
    _show(run, found, found, keep=not no_keep, json=json)


@commands.command(
    short_help="Estimate epsilon from runs with and without one client.",
    epilog=examples("raysim privacy neighbours runs/quickstart-20250102-030405 --client 17"),
)
def neighbours(
    run: Run,
    client: Client,
    runs: Annotated[int, typer.Option(min=1, max=10_000, help="Pairs of runs, each with a seed of its own.")] = 8,
    no_keep: Unkept = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a run again with and without one client, and tell the two kinds of models apart."""
    from raysim.auditing import neighbouring_runs
    from raysim.cli.json_outputs.attacks import NeighboursOutput

    found = neighbouring_runs(run, client=client, runs=runs, tell=partial(typer.echo, err=True))
    _show(run, found, NeighboursOutput(**found.facts()), keep=not no_keep, json=json)


def _show(run: Path, found: Found, output: object, *, keep: bool, json: bool) -> None:
    """Keep what was found where it is wanted, and print its numbers."""
    if keep:
        from raysim.evidence import keep_evidence

        typer.echo(f"kept in {keep_evidence(run, found)}; raysim report {run} shows it", err=True)
    _print(output, json=json)


def _print(output: object, *, json: bool) -> None:
    if json:
        emit(output)
        return
    shown = {name: value for name, value in values_of(output).items() if value is not None}
    printing.facts([(name.replace("_", " "), _text(value)) for name, value in shown.items()])


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(_text(one) for one in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)

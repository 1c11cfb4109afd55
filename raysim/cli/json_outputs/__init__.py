"""What commands print with `--json`: the class of each output, which its JSON schema comes from, too (`schemas`).

A command with an output of its own has a frozen dataclass in a file of this folder, or prints one that it has already;
it takes the option `raysim.cli.options.Json`, hands an object of the class to `emit`, and has a line in `OUTPUTS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import typer

from raysim.config.parsing import json_line

_HERE = "raysim.cli.json_outputs"

OUTPUTS: Mapping[str, str] = {
    "run": "raysim.tracking.observers.events:RunEvent",
    "resume": "raysim.tracking.observers.events:RunEvent",
    "report": f"{_HERE}.files:ReportOutput",
    "export": f"{_HERE}.files:ExportOutput",
    "rebuild": f"{_HERE}.files:RebuildOutput",
    "runs": f"{_HERE}.past:RunsOutput",
    "compare": f"{_HERE}.past:CompareOutput",
    "verify": f"{_HERE}.verified:VerifyOutput",
    "debug": "raysim.debugging:Debugged",
    "plan": f"{_HERE}.plan:PlanOutput",
    "privacy curve": f"{_HERE}.privacy:CurveOutput",
    "privacy calibrate": "raysim.privacy.plan:PrivacyFacts",
    "privacy audit": f"{_HERE}.privacy:AuditOutput",
    "privacy samples": f"{_HERE}.attacks:SamplesOutput",
    "privacy invert": f"{_HERE}.attacks:InversionOutput",
    "privacy membership": f"{_HERE}.attacks:MembershipOutput",
    "privacy canaries": "raysim.privacy.canaries:CanaryAudit",
    "privacy neighbours": f"{_HERE}.attacks:NeighboursOutput",
    "serve": f"{_HERE}.files:ServeOutput",
    "tune": "raysim.tuning.progress:StudyEvent",
    "data build": f"{_HERE}.data:BuildOutput",
    "data show": f"{_HERE}.data:ShowOutput",
    "data import": f"{_HERE}.files:ImportOutput",
    "list": f"{_HERE}.catalogue:ListOutput",
    "schema": f"{_HERE}.files:SchemaOutput",
    "doctor": f"{_HERE}.catalogue:DoctorOutput",
    "init": f"{_HERE}.files:InitOutput",
    "completion": f"{_HERE}.files:CompletionOutput",
    "error": f"{_HERE}:ErrorOutput",
}
"""The class of each command's output, as an import string: some take seconds to import. `error` is that of any command
that fails. A union is of the lines that a command prints, an object each; every other command prints one line."""


@dataclass(frozen=True, slots=True)
class ErrorDetails:
    """Why a command failed.

    Attributes:
        type: a class of `raysim.errors`, `UsageError` for a wrong option or argument, or `Interrupted`.
        messages: what is wrong and what to do, one problem each.
        notes: what else is known, such as a command that shows more.
        exit_code: of the process.
        client: that it is about; null where it is about none.
        round: likewise.
        own_code: whether code of your own raised it; `--debug` shows the traceback.
    """

    type: str
    messages: tuple[str, ...]
    exit_code: int
    notes: tuple[str, ...] = ()
    client: int | None = None
    round: int | None = None
    own_code: bool = False


@dataclass(frozen=True, slots=True)
class ErrorOutput:
    """The last line of a command that failed; its text is on the standard error, too.

    Attributes:
        error: what is wrong.
    """

    error: ErrorDetails


def emit(output: object) -> None:
    """Print an output: one line of strict JSON, in which a number that is not finite is null."""
    typer.echo(json_line(output))


def answer(output: object, text: object, *, json: bool) -> None:
    """Print an output with `--json`, and the text without."""
    typer.echo(json_line(output) if json else text)

"""Outputs of `raysim list` and `doctor`."""

from __future__ import annotations

from dataclasses import dataclass

from raysim.cli.findings import Finding


@dataclass(frozen=True, slots=True)
class ListedName:
    """A component that can be chosen by its name.

    Attributes:
        name: for the configuration; `package.module:name` stands for your own code.
        text: what it is, in a line.
    """

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class ListedKind:
    """Components of one kind.

    Attributes:
        kind: such as `algorithms`.
        key: of the configuration that chooses one; for `configs` the command that takes one.
        names: all of them.
    """

    kind: str
    key: str
    names: tuple[ListedName, ...]


@dataclass(frozen=True, slots=True)
class ListOutput:
    """What can be chosen by name.

    Attributes:
        kinds: the one that was asked for, or all.
    """

    kinds: tuple[ListedKind, ...]


@dataclass(frozen=True, slots=True)
class DoctorOutput:
    """Whether this machine is ready; with exit code 1 where something is bad.

    Attributes:
        ok: nothing is bad.
        findings: on this machine, a check each.
        nodes: findings on the nodes of a cluster (`--address`).
    """

    ok: bool
    findings: tuple[Finding, ...]
    nodes: tuple[Finding, ...]

"""Parameter groups: what `client.groups` comes to on the columns of a layout."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from raysim.config.client import ClientConfig, ParameterGroupConfig
from raysim.errors import ConfigError
from raysim.training.layout import ALIGNMENT, ParameterLayout, Segment

_SHOWN = 20
"""Names of parameters that an error lists."""


@dataclass(frozen=True, slots=True)
class ColumnRates:
    """How the columns of a gradient differ from each other in an optimiser's step.

    Attributes:
        lr_scale: factor on the learning rate, float32 `[T]`.
        weight_decay: float32 `[T]`.
    """

    lr_scale: Tensor
    weight_decay: Tensor
    _placed: dict[torch.device, tuple[Tensor, Tensor]] = field(default_factory=dict, compare=False, repr=False)

    def on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Both vectors on a device."""
        if device not in self._placed:
            self._placed[device] = self.lr_scale.to(device), self.weight_decay.to(device)
        return self._placed[device]


@dataclass(frozen=True, slots=True)
class PartClip:
    """Parts of a gradient that are clipped by themselves.

    Attributes:
        parts: of each the columns, as slices in ascending order, and the Euclidean norm.
    """

    parts: tuple[tuple[tuple[slice, ...], float], ...]


Clip = float | PartClip
"""The Euclidean norm to which gradients are clipped, of the whole or of parts."""


def column_rates(client: ClientConfig, layout: ParameterLayout) -> ColumnRates | None:
    """Learning rates and weight decays by column; None where all columns are alike.

    Raises:
        ConfigError: a group's globs match no parameter, or none that is not in an earlier group.
    """
    members = _members(client.groups, layout)
    if not any(one.lr_scale != 1 or one.weight_decay is not None for one in client.groups):
        return None
    scale, decay = torch.ones(layout.trainable), torch.full((layout.trainable,), client.optimizer.weight_decay)
    for group, segments in zip(client.groups, members, strict=True):
        for segment in segments:
            columns = slice(segment.start, segment.start + segment.size)
            scale[columns] = group.lr_scale
            if group.weight_decay is not None:
                decay[columns] = group.weight_decay
    return ColumnRates(scale, decay)


def clip_of(client: ClientConfig, layout: ParameterLayout) -> Clip | None:
    """How gradients are clipped: as one, in parts, or not at all.

    Raises:
        ConfigError: as `column_rates`.
    """
    if not any(group.clip_norm is not None for group in client.groups):
        return client.clip_norm
    rest, parts = list(layout.parameters), []
    for group, segments in zip(client.groups, _members(client.groups, layout), strict=True):
        if group.clip_norm is not None:
            parts.append((_joined(segments), group.clip_norm))
            rest = [segment for segment in rest if segment not in segments]
    if rest and client.clip_norm is not None:
        parts.append((_joined(rest), client.clip_norm))
    return PartClip(tuple(parts))


def _members(groups: Sequence[ParameterGroupConfig], layout: ParameterLayout) -> list[list[Segment]]:
    """The parameters of each group."""
    members: list[list[Segment]] = [[] for _ in groups]
    for segment in layout.parameters:
        for group, mine in zip(groups, members, strict=True):
            if _matches(segment, group):
                mine.append(segment)
                break
    for i, (group, mine) in enumerate(zip(groups, members, strict=True)):
        if unused := [one for one in group.match if not any(fnmatchcase(s.name, one) for s in layout.parameters)]:
            names = [segment.name for segment in layout.parameters]
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            raise ConfigError(
                f"client.groups.{i}.match: {unused[0]!r} matches no trainable parameter; they are "
                f"{', '.join(names[:_SHOWN])}{more}"
            )
        if not mine:
            raise ConfigError(
                f"client.groups.{i}.match: all parameters that {', '.join(group.match)} matches are in an earlier "
                "group; the first one that matches counts: put this group before it, or remove it"
            )
    return members


def _matches(segment: Segment, group: ParameterGroupConfig) -> bool:
    return any(fnmatchcase(segment.name, pattern) for pattern in group.match)


def _joined(segments: Iterable[Segment]) -> tuple[slice, ...]:
    """The segments' columns, those that follow each other, with zeros between them, as one slice."""
    found: list[list[int]] = []
    for segment in segments:
        stop = segment.start + segment.size
        if found and segment.start - found[-1][1] < ALIGNMENT:
            found[-1][1] = stop
        else:
            found.append([segment.start, stop])
    return tuple(slice(start, stop) for start, stop in found)

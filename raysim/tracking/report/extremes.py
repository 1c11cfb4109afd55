"""How the clients that are served best and worst learned: their own training losses, by id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
from matplotlib.figure import Figure

from raysim.arrays import Float64, Int64
from raysim.tracking.directory import RunDirectory
from raysim.tracking.headline import OVER_CLIENTS, ClientSet, smaller_is_better
from raysim.tracking.holdouts import ClientMetrics
from raysim.tracking.metric_names import words
from raysim.tracking.reading import gathered, read_clients
from raysim.tracking.report.style import Picture, Theme, axes, color, legend, whole_numbers
from raysim.tracking.units import figure

EACH = 3
"""Clients at either end."""


@dataclass(frozen=True, slots=True)
class ClientCurve:
    """A client's training loss in the rounds that it took part in.

    Attributes:
        value: by which it was chosen.
        rounds, losses: `[n]` both.
    """

    client: int
    value: float
    rounds: Float64
    losses: Float64


@dataclass(frozen=True, slots=True)
class Extremes:
    """The clients that are served worst and best; of equal ones those with the larger and the smaller training loss.

    Attributes:
        metric: by which they were chosen, of the last evaluation on samples of their own; `train/loss` where there was
            none: their last training loss.
        worst, best: from the outermost on.
    """

    metric: str
    worst: tuple[ClientCurve, ...]
    best: tuple[ClientCurve, ...]


def read_extremes(run: RunDirectory, measured: Mapping[ClientSet, ClientMetrics]) -> Extremes | None:
    """The clients at either end of a run, of those that took part at least twice; None where there are fewer than two.

    Raises:
        RunError: a table is damaged.
    """
    found: dict[int, tuple[int, float]] = {}
    for part in gathered(read_clients(run, ["client", "loss"]), 1 << 18):
        kept = part.filter(pc.is_finite(part["loss"]))
        for client, loss in zip(kept["client"].to_pylist(), kept["loss"].to_pylist(), strict=True):
            found[client] = found.get(client, (0, 0.0))[0] + 1, loss
    seen = np.array(sorted(client for client, (times, _) in found.items() if times > 1), dtype=np.int64)
    metric, values = _judged(seen, measured)
    if values is None:
        values = np.array([found[client][1] for client in seen.tolist()], dtype=np.float64)
    known = np.isfinite(values)
    seen, values = seen[known], values[known]
    if len(seen) < 2:
        return None
    losses = np.array([found[client][1] for client in seen.tolist()], dtype=np.float64)
    order = np.lexsort((losses, values if smaller_is_better(metric) else -values))
    each = min(EACH, len(seen) // 2)
    best, worst = order[:each], order[::-1][:each]
    curves = _curves(run, seen[np.concatenate([best, worst])])

    def chosen(places: Int64) -> tuple[ClientCurve, ...]:
        ids = zip(seen[places].tolist(), values[places].tolist(), strict=True)
        return tuple(ClientCurve(client, value, *curves[client]) for client, value in ids)

    return Extremes(metric, chosen(worst), chosen(best))


def extreme_curves(found: Extremes) -> Picture:
    """Training losses of the clients at either end, over the rounds that they took part in."""
    last = found.metric == "train/loss"
    judged = "training loss, last" if last else f"{words(found.metric.partition('/')[2]).lower()}, last evaluation"

    def draw(theme: Theme) -> Figure:
        picture, ax = axes(theme, "Training loss of the best and worst clients", "round")
        for side, curves, shade, style in (("best", found.best, 2, "-"), ("worst", found.worst, 1, "--")):
            for place, one in enumerate(curves):
                label = f"{side}: client {one.client} ({figure(one.value)})"
                few = len(one.rounds) <= 25
                ax.plot(
                    one.rounds, one.losses, style, color=color(theme, shade), label=label, alpha=1 - 0.3 * place,
                    linewidth=1.8 - 0.4 * place, marker="o^s"[place % 3] if few else "", markersize=3.5,
                )  # fmt: skip
        whole_numbers(ax)
        legend(picture, ax, columns=2)
        return picture

    note = f"Best and worst by {judged}; of clients that took part at least twice."
    return Picture("extremes", "Training losses of the clients that are served best and worst", draw, note)


def _judged(seen: Int64, measured: Mapping[ClientSet, ClientMetrics]) -> tuple[str, Float64 | None]:
    """What clients were measured by on samples of their own, and its value for each of these."""
    for of, found in measured.items():
        name = next((one for one in ("accuracy", *found.names) if one in found.names and "/" not in one), None)
        if name is not None:
            column = dict(zip(found.clients.tolist(), found.column(name).tolist(), strict=True))
            values = np.array([column.get(client, np.nan) for client in seen.tolist()], dtype=np.float64)
            return f"{OVER_CLIENTS[of].rstrip('/').replace('/', ' ')}/{name}", values
    return "train/loss", None


def _curves(run: RunDirectory, clients: Sequence[int] | Int64) -> dict[int, tuple[Float64, Float64]]:
    points: dict[int, list[tuple[float, float]]] = {int(client): [] for client in clients}
    wanted = np.asarray(clients)
    for part in gathered(read_clients(run, ["client", "loss"]), 1 << 18):
        rows = part.filter(pc.is_finite(part["loss"]))
        rows = rows.filter(np.isin(rows["client"].to_numpy(), wanted))
        columns = (rows[name].to_pylist() for name in ("client", "round", "loss"))
        for client, round, loss in zip(*columns, strict=True):
            points[client].append((round, loss))
    return {client: (np.array([x for x, _ in found]), np.array([y for _, y in found]))
            for client, found in points.items()}  # fmt: skip

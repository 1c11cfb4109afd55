"""From the results of ranges to metrics by name: of the server's sets, of each client, and over the clients."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from raysim.arrays import Float64
from raysim.evaluation.fairness import LocalBaseline, gini, jain
from raysim.evaluation.nodes import over_nodes
from raysim.rounds.ranges import Evaluated
from raysim.tracking import OVER_CLIENTS, ClientMetrics, ClientSet
from raysim.training import ExactSums, Metric, add_exact, merge_exact, values_of
from raysim.training.metrics import Counted, Scores, added_pairs, merged

DISTRIBUTION = ("mean", "worst10", "best10", "std", "gini", "jain")
"""How a metric is summarised over the clients: worst and best are means of a tenth of the clients, `gini` and
`jain` the indices of `raysim.evaluation.fairness`."""
_ALWAYS = DISTRIBUTION[:4]
BELOW_LOCAL = "below_local"
"""Share of the clients that their own local model serves better, where there is a baseline."""

UNTUNED = "untuned_"
"""In front of them where models are fine-tuned, of the models as they were before."""


def metric_names(
    metrics: Sequence[Metric],
    parts: Sequence[str],
    *,
    clients: Sequence[ClientSet],
    tuned: bool = False,
    local: bool = False,
) -> list[str]:
    """Names of all that `summarise` may return.

    Args:
        metrics: what is measured.
        parts: the server's sets that are evaluated.
        clients: the clients' own sets that are.
        tuned: whether that is after fine-tuning.
        local: whether there is a local baseline.
    """
    names = [f"{part}/{metric.name}" for part in parts for metric in metrics]
    before = [f"{UNTUNED}{what}" for what in DISTRIBUTION] if tuned else []
    summaries = [*DISTRIBUTION, *([BELOW_LOCAL] if local else []), *before]
    return names + [
        f"{OVER_CLIENTS[of]}{metric.name}/{what}" for of in clients for metric in metrics for what in summaries
    ]


def together(results: Iterable[Evaluated]) -> list[Evaluated]:
    """Results of one worker with those of one set as one, where scores are counted: bins are many numbers a range.

    They are added up as they come, so that the bins of two ranges are in memory, however many ranges there are.
    """
    found, counted = list[Evaluated](), dict[str, Evaluated]()
    for one in results:
        if not isinstance(one.scores, Counted):
            found.append(one)
        elif (known := counted.get(one.part)) is None:
            counted[one.part] = one
        else:
            sums = add_exact([each.sums for each in (known, one) if isinstance(each.sums, tuple)])
            scores = merged([each.scores for each in (known, one) if each.scores is not None])
            confused = added_pairs(each.confused for each in (known, one) if each.confused is not None)
            counted[one.part] = Evaluated(one.part, sums, scores=scores, confused=confused)
    return [*found, *counted.values()]


def client_metrics(
    results: Iterable[Evaluated], metrics: Sequence[Metric], of: ClientSet = "holdout", *, untuned: bool = False
) -> ClientMetrics | None:
    """Each client's own metrics, by ascending id, whatever the order of arrival; None where that set is not there.

    Args:
        results: of all ranges.
        metrics: in the order of the values.
        of: the set that they are measured on.
        untuned: of the models as they were before fine-tuning, where there was any.
    """
    part = "holdout" if of == "holdout" else "client test"
    mine = [(one.clients, one.untuned if untuned else one.sums) for one in results if one.part == part]
    found = [(ids, values) for ids, values in mine if ids is not None and isinstance(values, np.ndarray)]
    if not found:
        return None
    clients = np.concatenate([ids for ids, _ in found])
    order = np.argsort(clients)
    values: Float64 = np.concatenate([values for _, values in found])[order]
    return ClientMetrics(clients[order], tuple(metric.name for metric in metrics), values)


def summarise(
    results: Iterable[Evaluated],
    metrics: Sequence[Metric],
    measured: Mapping[ClientSet, ClientMetrics] | None = None,
    local: LocalBaseline | None = None,
) -> dict[str, float]:
    """Metrics by name: `test/accuracy`, `validation/loss`, `clients/accuracy/worst10`, `clients/test/loss/mean`, ….

    Clients where a metric is NaN do not count in its summaries.

    Args:
        results: of all ranges.
        metrics: in the order of the sums and values.
        measured: `own_metrics` of these results, where the caller has them already.
        local: what the clients reach alone.
    """
    results = list(results)
    server: dict[str, tuple[list[ExactSums], list[Scores]]] = {}
    for result in results:
        if isinstance(result.sums, tuple):
            sums, scores = server.setdefault(result.part, ([], []))
            sums.append(result.sums)
            scores += [] if result.scores is None else [result.scores]
    values: dict[str, float] = {}
    for part, (sums, scores) in sorted(server.items()):
        by_name = values_of(metrics, merge_exact(sums), merged(scores) if scores else None)
        values |= {f"{part}/{name}": value for name, value in by_name.items()}
    values |= over_nodes(results, metrics)
    measured = own_metrics(results, metrics) if measured is None else measured
    for of, front in OVER_CLIENTS.items():
        if (found := measured.get(of)) is not None:
            for metric in metrics:
                over_clients = _over_clients(found, metric, of, local)
                values |= {f"{front}{metric.name}/{what}": value for what, value in over_clients.items()}
        if (before := client_metrics(results, metrics, of, untuned=True)) is not None:
            for metric in metrics:
                over_clients = _over_clients(before, metric, of, None)
                values |= {f"{front}{metric.name}/{UNTUNED}{what}": value for what, value in over_clients.items()}
    return values


def own_metrics(results: Sequence[Evaluated], metrics: Sequence[Metric]) -> dict[ClientSet, ClientMetrics]:
    """`client_metrics` on each of the clients' own sets that is there."""
    found = {of: client_metrics(results, metrics, of) for of in OVER_CLIENTS}
    return {of: measured for of, measured in found.items() if measured is not None}


def _over_clients(
    measured: ClientMetrics, metric: Metric, of: ClientSet, local: LocalBaseline | None
) -> dict[str, float]:
    """Summaries of a metric over the clients; those that it does not have are left out."""
    by_client = measured.column(metric.name)
    ordered = np.sort(by_client)
    ordered = ordered[~np.isnan(ordered)]
    if not len(ordered):
        return {}
    tenth = max(1, round(len(ordered) / 10))
    low, high = float(ordered[:tenth].mean()), float(ordered[-tenth:].mean())
    worst, best = (low, high) if metric.higher_is_better else (high, low)
    indices = (gini(ordered), jain(ordered))
    summary = dict(zip(DISTRIBUTION, (float(ordered.mean()), worst, best, float(ordered.std()), *indices), strict=True))
    if local is not None:
        summary[BELOW_LOCAL] = local.share_below(
            measured.clients, metric.name, by_client, of, higher=metric.higher_is_better
        )
    return {what: value for what, value in summary.items() if what in _ALWAYS or not math.isnan(value)}

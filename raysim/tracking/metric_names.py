"""The parts of a metric's name, and what people call them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

PARTS = ("train", "validation", "test")
SPREADS = frozenset({"std", "gini", "jain"})
"""Summaries over clients that say how unlike they are: no value of them is a best one by itself."""
UNTUNED = "untuned_"
ACCOUNTS = ("privacy/", "virtual/", "gossip/", "edges/")
"""In front of what is spent, and of how far nodes are apart, which are no measures of the model."""

_WORDS: Mapping[str, str] = {
    "pr_auc": "PR-AUC", "roc_auc": "ROC-AUC", "ece": "Calibration error", "brier": "Brier score", "f1": "F1",
    "macro_f1": "Macro F1", "mae": "Mean absolute error", "rmse": "RMSE",
}  # fmt: skip


class NameParts(NamedTuple):
    """`test/recall/died` is (test, recall, died, ""); `clients/test/loss/mean` is (clients/test, loss, "", mean)."""

    where: str
    """`train`, `validation`, `test`, `clients`, `clients/test`, `nodes/validation`, `nodes/test`; empty for a metric
    of no set."""
    family: str
    """What is measured."""
    of_class: str
    """The class that it is of; empty for all of them together."""
    summary: str
    """Over clients or nodes: `mean`, `worst10`, …"""

    @property
    def what(self) -> str:
        """What is measured, of which class: `recall/died`."""
        return f"{self.family}/{self.of_class}" if self.of_class else self.family


def parts_of(name: str) -> NameParts:
    """Take a metric's name apart."""
    first, _, rest = name.partition("/")
    if first in PARTS and rest:
        family, _, of_class = rest.partition("/")
        return NameParts(first, family, of_class, "")
    if first == "clients" and "/" in rest:
        what, _, summary = rest.rpartition("/")
        own = what.removeprefix("test/")
        family, _, of_class = own.partition("/")
        return NameParts("clients" if own == what else "clients/test", family, of_class, summary)
    if first == "nodes" and rest.count("/") > 1:
        part, _, what = rest.partition("/")
        what, _, summary = what.rpartition("/")
        family, _, of_class = what.partition("/")
        return NameParts(f"nodes/{part}", family, of_class, summary)
    return NameParts("", name, "", "")


def has_best(name: str) -> bool:
    """Whether a value of the metric can be the best one: not of a spread over clients, nor of what is spent."""
    return parts_of(name).summary.removeprefix(UNTUNED) not in SPREADS and not name.startswith(ACCOUNTS)


def words(what: str) -> str:
    """`balanced_accuracy` as `Balanced accuracy`, `recall/died` as `Recall of died`; import strings by their end."""
    family, _, of_class = what.partition("/")
    text = _WORDS.get(family, family.rpartition(":")[2].replace("_", " "))
    text = text[:1].upper() + text[1:]
    return f"{text} of {of_class}" if of_class else text


def by_class(names: Iterable[str]) -> dict[tuple[str, str, str], dict[str, str]]:
    """Metrics that are of one class each, by (where, family, summary): each class's name and its metric's."""
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    for name in names:
        parts = parts_of(name)
        if parts.of_class:
            found.setdefault((parts.where, parts.family, parts.summary), {})[parts.of_class] = name
    return found

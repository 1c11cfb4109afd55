"""The colours of the report's pictures and of its page, light and dark; without matplotlib, which takes a second."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of a picture; the series are those of Okabe & Ito (2008), ordered and lightened for the background."""

    name: str
    background: str
    text: str
    faint: str
    grid: str
    series: tuple[str, ...]

    @property
    def colors(self) -> tuple[str, ...]:
        """The series, and after them the grid's colour for what is beside the point."""
        return (*self.series, self.grid)


LIGHT = Theme(
    name="light",
    background="#ffffff",
    text="#1c2330",
    faint="#687182",
    grid="#e6e9ee",
    series=("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b7280"),
)
DARK = Theme(
    name="dark",
    background="#171b22",
    text="#e6e9ef",
    faint="#98a2b3",
    grid="#2a303a",
    series=("#56b4e9", "#ee8042", "#2fc79a", "#dd94bb", "#f0b93a", "#8fd0f5", "#9aa3b2"),
)

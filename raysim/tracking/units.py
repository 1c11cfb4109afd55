"""Numbers as people read them, in the terminal and in the report."""

from __future__ import annotations

import math


def duration(seconds: float) -> str:
    """`48 ms`, `2.4 s`, `3:05 min`, `2:03:05 h`."""
    if not math.isfinite(seconds):
        return "–"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 or seconds == 0 else f"{seconds * 1000:.2g} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d} h"


def time_left(seconds: float) -> str:
    """As `duration`, without pretending to know fractions of a second."""
    return f"{max(1, round(seconds))} s" if seconds < 59.5 else duration(seconds)


def size(count: float) -> str:
    """Bytes in decimal units: `640 B`, `1.66 MB`."""
    return f"{_scaled(count, ('', 'k', 'M', 'G', 'T', 'P'))}B"


def quantity(count: float) -> str:
    """A count, shortened above a million: `199,210`, `1.66 M`."""
    if not math.isfinite(count):
        return "–"
    if abs(count) < 1_000_000:
        return f"{count:,.0f}"
    return _scaled(count, ("", "k", "M", "G", "T", "P")).rstrip()


def rate(per_second: float) -> str:
    """Something a second: `84`, `3.2`, `0.05`, `12,400`."""
    if not math.isfinite(per_second):
        return "–"
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"


def figure(value: float | None) -> str:
    """A metric with four digits after the point, or as many as show three or four significant ones of a smaller."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.4f}" if abs(value) < 100 else f"{value:,.2f}"
    return f"{value:.6f}" if 1e-4 <= abs(value) < 1e-3 else f"{value:.3e}"


def _scaled(count: float, prefixes: tuple[str, ...]) -> str:
    step = 0
    while abs(count) >= 999.5 and step + 1 < len(prefixes):
        count /= 1000
        step += 1
    return f"{count:.0f} " if step == 0 else f"{count:.3g} {prefixes[step]}"

"""HTML from plain values. Text is escaped here and nowhere else: a `Html` is safe, a `str` never is."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from raysim.tracking.report.themes import DARK, LIGHT

if TYPE_CHECKING:
    from raysim.tracking.report.style import Picture


@dataclass(frozen=True, slots=True)
class Html:
    """Markup that may go into the page as it is."""

    text: str


Content: TypeAlias = "str | Html"


def escape(content: Content) -> str:
    """Text with its special characters escaped; markup unchanged."""
    return content.text if isinstance(content, Html) else html.escape(content)


def join(parts: Iterable[Content]) -> Html:
    """Parts one after the other."""
    return Html("\n".join(escape(part) for part in parts))


def element(tag: str, content: Content = "", *, kind: str | None = None) -> Html:
    """`<tag class="kind">content</tag>`."""
    attribute = f' class="{html.escape(kind)}"' if kind else ""
    return Html(f"<{tag}{attribute}>{escape(content)}</{tag}>")


def key(name: str, *, kind: str | None = None) -> Html:
    """A dotted key as code, which may be broken behind a dot or an underscore."""
    return element("code", Html(re.sub(r"([._])", r"\1<wbr>", html.escape(name))), kind=kind)


def section(title: str, *parts: Content) -> Html:
    """A titled section; nothing if it has no parts."""
    if not parts:
        return Html("")
    return element("section", join([element("h2", title), *parts]))


def folded(title: Content, content: Content) -> Html:
    """Content behind a line that opens it."""
    return element("details", join([element("summary", title), content]))


def tile(label: str, value: str, note: str = "") -> Html:
    """A number to be read from afar, with what it is above and a remark below."""
    parts = [element("dt", label), element("dd", value)]
    if note:
        parts.append(element("dd", note, kind="note"))
    return element("div", join(parts), kind="tile")


def tiles(items: Iterable[Html]) -> Html:
    """A row of tiles."""
    return element("dl", join(items), kind="tiles")


def table(head: Sequence[Content], rows: Iterable[Sequence[Content]], *, text_columns: int = 1) -> Html:
    """A table whose first `text_columns` columns are text, the rest numbers."""

    def row(tag: str, cells: Sequence[Content]) -> Html:
        kinds = [None if i < text_columns else "number" for i in range(len(cells))]
        return element("tr", join(element(tag, cell, kind=kind) for cell, kind in zip(cells, kinds, strict=True)))

    body = [row("td", cells) for cells in rows]
    content = [element("thead", row("th", head)), element("tbody", join(body))] if head else [join(body)]
    return element("div", element("table", join(content)), kind="scroll")


def swatch(color: int) -> Html:
    """A small square in one of the pictures' colours (see `Theme.colors`)."""
    return Html(f'<i class="swatch" style="background:var(--series-{color})"></i>')


def pictures(images: Iterable[tuple[Picture, str, str]]) -> Html:
    """Pictures side by side where there is room: (picture, its address for a light page, and for a dark one)."""
    return element("div", join(_picture(*image) for image in images), kind="pictures")


def theme_colors() -> str:
    """The colours of the pictures' series as CSS variables `--series-0`, …, so that tables can refer to them."""
    light, dark = (
        " ".join(f"--series-{i}: {shade};" for i, shade in enumerate(theme.colors)) for theme in (LIGHT, DARK)
    )
    return f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}"


def _picture(picture: Picture, light: str, dark: str) -> Html:
    alt = html.escape(picture.alt)
    image = Html(
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{html.escape(dark)}">'
        f'<img src="{html.escape(light)}" alt="{alt}" title="{alt}" loading="lazy"></picture>'
    )
    return element("figure", join([image, element("figcaption", picture.note)]) if picture.note else image)


def inline(png: bytes) -> str:
    """The address of a PNG that is part of the page itself."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"

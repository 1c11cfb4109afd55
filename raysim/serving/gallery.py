"""The report's pictures for a page of the server: drawn when a browser asks for them, one at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable

from raysim.tracking.report import markup
from raysim.tracking.report.markup import Html
from raysim.tracking.report.style import DARK, LIGHT, Picture

PAGES = 8
"""Pages whose pictures are kept, those that were looked at last."""

_THEMES = {theme.name: theme for theme in (LIGHT, DARK)}


class Gallery:
    """Pictures by page and name."""

    def __init__(self) -> None:
        """Empty."""
        self._pages: OrderedDict[str, dict[str, Picture]] = OrderedDict()
        self._drawn: dict[tuple[str, str, str], bytes] = {}
        self._pages_lock = threading.Lock()
        self._drawing = threading.Lock()  # Matplotlib's settings belong to the process

    def place(self, page: str) -> Callable[[Iterable[Picture]], Html]:
        """What hangs pictures of this page and returns the markup that asks for them.

        Args:
            page: an address without special characters, another one whenever a picture would be another.
        """

        def hang(pictures: Iterable[Picture]) -> Html:
            shown = list(pictures)
            with self._pages_lock:
                self._pages.setdefault(page, {}).update({picture.name: picture for picture in shown})
                self._pages.move_to_end(page)
                while len(self._pages) > PAGES:
                    gone, _ = self._pages.popitem(last=False)
                    self._drawn = {key: png for key, png in self._drawn.items() if key[0] != gone}
            address = f"/pictures/{page}"
            return markup.pictures((one, f"{address}/{one.name}/light", f"{address}/{one.name}/dark") for one in shown)

        return hang

    def png(self, page: str, name: str, theme: str) -> bytes | None:
        """A picture that was hung; None if there is none of this name."""
        with self._pages_lock:
            picture = self._pages.get(page, {}).get(name)
        if picture is None or theme not in _THEMES:
            return None
        key = (page, name, theme)
        with self._drawing:
            drawn = self._drawn.get(key)
            if drawn is None:
                drawn = self._drawn[key] = picture.png(_THEMES[theme])
        return drawn

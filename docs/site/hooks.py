"""What the site adds to the pages: those of the repository's root, and links into the source as plain text.

On the site there is no source to point at, so a link to a file of the repository becomes its text, with the path as its
title.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PAGES = {"index.md": "README.md", "changelog.md": "CHANGELOG.md", "agents.md": "AGENTS.md"}
"""Pages of the site that are files of the repository's root."""

_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the root; their links into `docs/` are links between pages here."""
    for name, source in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        text = re.sub(r"(\]\(|src=\"|srcset=\")docs/", r"\1", text)
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to other files of the repository become their text."""
    here = PAGES.get(page.file.src_uri)

    def linked(found: re.Match[str]) -> str:
        text, target, anchor = found[1], found[2], found[3] or ""
        if ":" in target:
            return found[0]
        path = target if here is not None else target.removeprefix("../")
        for name, source in PAGES.items():
            if path == source and (here is not None or target.startswith("../")):
                return f"[{text}]({name}{anchor})"
        outside = target.startswith("../") or (here is not None and not (ROOT / "docs" / target).exists())
        return f'<span title="{path}">{text}</span>' if outside and (ROOT / path).exists() else found[0]

    return _LINK.sub(linked, markdown)

"""The lines of code that docs/flower.md counts are those of its program and of the app beside it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
APP = ROOT / "tests" / "adapters" / "apps" / "own_app"


def lines_of_code(text: str) -> int:
    """Lines that are neither empty, nor a comment, nor part of a docstring."""
    documented = set[int]()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            documented |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = enumerate(text.splitlines(), start=1)
    return sum(bool(line.strip()) and line.lstrip()[0] != "#" and number not in documented for number, line in lines)


def test_the_page_counts_the_lines_as_they_are() -> None:
    page = (ROOT / "docs" / "flower.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert f"program, {lines_of_code(program)} lines:" in " ".join(page.split())
    there = sum(lines_of_code(file.read_text(encoding="utf-8")) for file in APP.rglob("*.py"))
    there += sum(bool(line.strip()) for line in (APP / "pyproject.toml").read_text(encoding="utf-8").splitlines())
    assert f"`pyproject.toml`: {there} lines" in " ".join(page.split())

"""One name has one meaning."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import raysim

PACKAGE = Path(raysim.__file__).parent


def classes_by_name() -> dict[str, list[str]]:
    """The files in which each class of the package is defined, by its name."""
    found = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                found[node.name].append(str(path.relative_to(PACKAGE)))
    return found


def test_a_class_name_stands_in_one_file() -> None:
    classes = classes_by_name()
    assert len(classes) > 300
    assert {name: files for name, files in classes.items() if len(files) > 1} == {}


def test_the_name_of_a_file_of_tests_stands_in_one_folder() -> None:
    """pytest imports them by their names alone."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []

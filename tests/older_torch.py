"""A torch that lacks a name which this project uses and torch promises nothing about."""

from __future__ import annotations

from importlib import import_module

import pytest

from raysim.training import captured


def lacking(monkeypatch: pytest.MonkeyPatch, place: str, name: str) -> None:
    """Take the name away from the module for the rest of the test, in which no graph is known from before."""
    for part in ("torch._dynamo.convert_frame", "torch._inductor.compile_fx"):
        import_module(part)  # torch imports them when it gets to them, and would be left with halves of them
    monkeypatch.delattr(import_module(place), name)
    monkeypatch.setattr(captured, "_known", {})

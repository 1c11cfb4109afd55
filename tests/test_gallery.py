"""Every configuration that comes with raysim has its card in the gallery."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from raysim.config.bundled import FAMILIES, bundled_configs

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def gallery() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gallery", ROOT / "docs" / "site" / "gallery.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_configuration_has_its_card(gallery: ModuleType) -> None:
    measured = json.loads(gallery.RESULTS.read_text(encoding="utf-8"))
    assert set(bundled_configs()) - set(measured) == set(), "run `python docs/site/gallery.py`"
    assert set(measured) - set(bundled_configs()) == set(), "run `python docs/site/gallery.py --page`"
    page = gallery.PAGE.read_text(encoding="utf-8")
    assert page == gallery.page(measured), "run `python docs/site/gallery.py --page`"
    assert [name for name in measured if f"### {name}\n" not in page] == []
    assert set(gallery.FAMILIES) == {"", *FAMILIES}


def test_every_card_of_a_run_has_its_picture_and_no_picture_is_left_over(gallery: ModuleType) -> None:
    measured = json.loads(gallery.RESULTS.read_text(encoding="utf-8"))
    pictures = {
        path.relative_to(gallery.PICTURES).with_suffix("").as_posix() for path in gallery.PICTURES.rglob("*.svg")
    }
    assert pictures == {name for name, one in measured.items() if "needs" not in one}
    assert all((gallery.PICTURES / f"{name}.svg").read_text().startswith("<svg ") for name in pictures)


def test_a_configuration_is_run_and_drawn(gallery: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, path in (
        ("PICTURES", tmp_path / "p"),
        ("RESULTS", tmp_path / "p" / "r.json"),
        ("PAGE", tmp_path / "g.md"),
    ):
        monkeypatch.setattr(gallery, name, path)
    monkeypatch.setattr(gallery, "CHANGED", (*gallery.CHANGED, "rounds=2"))
    monkeypatch.setattr("sys.argv", ["gallery.py", "quick*", "weights_explicit"])
    gallery.main()
    found = gallery.read_results()
    assert [(name, one["rounds"], one["metric"]) for name, one in found.items()] == [
        ("quickstart", 2, "test/accuracy"),
        ("weights_explicit", 2, "test/accuracy"),
    ]
    page = gallery.PAGE.read_text()
    assert f"`raysim run quickstart`: 2 rounds, test/accuracy **{found['quickstart']['last']:.4f}**" in page
    assert "polyline" in (gallery.PICTURES / "quickstart.svg").read_text()
    assert "not run for this page (no memory)" in gallery.page({"llm/diloco": {"needs": "no memory", "seconds": 0.0}})

"""Every form of data and model, trained by an actor of Ray, comes to the numbers of a plain torch loop as well."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from forms import check
from test_forms_of_data import FORMS as DATA
from test_forms_of_models import FORMS as MODELS
from test_forms_of_models import seeded_again

FORMS = {**DATA, **{name: seeded_again(form) for name, form in MODELS.items() if not form.by_name}}
"""All but modules by name, which an actor must be able to import."""


@pytest.fixture(scope="module")
def _carried(ray_session: Any) -> Iterator[None]:
    """No actor can import the files that forms are written in: they travel by value, as what a notebook defines."""
    files = [sys.modules[name] for name in ("forms", "test_forms_of_data", "test_forms_of_models")]
    for file in files:
        ray_session.cloudpickle.register_pickle_by_value(file)
    yield
    for file in files:
        ray_session.cloudpickle.unregister_pickle_by_value(file)


def test_there_are_as_many_forms_as_are_promised() -> None:
    assert len(FORMS) >= 25


@pytest.mark.usefixtures("ray_session", "_carried")
@pytest.mark.parametrize("name", FORMS)
def test_a_form_trains_to_the_numbers_of_a_plain_loop_on_ray(name: str, tmp_path: Path) -> None:
    torch.manual_seed(9)
    form = replace(FORMS[name], settings={**FORMS[name].settings, "execution": {"actors": 1}})
    check(form, "sequential", tmp_path / "run", executor="ray")

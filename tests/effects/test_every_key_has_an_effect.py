"""Whatever the configuration accepts has an effect, or is refused: every key of the schema, and none is forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import looks
import pytest
from algorithm_table import ALGORITHMS
from compression_table import COMPRESSION
from data_table import DATA
from looked_at import LOOKED_AT
from outcomes import Lab, stub_report, write_files
from schema_keys import schema_keys
from tables import RUNS, lines
from transformer_table import TRANSFORMERS

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        patch.setattr("raysim.tracking.recorder.write_report", stub_report)
        made = Lab(tmp_path_factory.mktemp("lab"))
        write_files(made.files)
        yield made


def of_algorithms() -> dict[str, tuple[str, tuple[str, ...]]]:
    found = {}
    table = lines(ALGORITHMS)
    for key in schema_keys():
        if key.startswith("algorithm="):
            name, _, knob = key.removeprefix("algorithm=").partition(".")
            if key.removeprefix("algorithm=") in table:
                found[key] = table[key.removeprefix("algorithm=")]
            elif knob in table:
                found[key] = table[knob][0], table.get(name, ("", ()))[1]
    return found


LOOKED = {key: look for look, table in LOOKED_AT.items() for key in lines(table)}
TABLE = lines(RUNS) | lines(DATA) | lines(COMPRESSION) | lines(TRANSFORMERS) | of_algorithms()
TABLE |= {key: row for table in LOOKED_AT.values() for key, row in lines(table).items()}
LISTS = ("data.transforms", "tracking.observers")
"""Lists of components, whose elements are given whole."""
WHOLE = ("tuning.space", "tuning.objective", "execution.classes", "client.groups")
"""Keys whose elements are given whole."""
INERT = {
    "data.source=synthetic.alpha": "as in the authors' code, it moves all classes of a client alike",
    "data.source=synthetic_virtual.alpha": "the same recipe",
}
"""Keys of a published recipe that have no effect there either; their description says so."""


def pair(key: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The overrides of two configurations that differ in a key."""
    within, chosen, inner = key.rpartition("=")
    if not chosen:
        within, inner = key, ""
    # Of a choice within another one, the base makes the outer one.
    path, choice = (
        (f"{within.partition('=')[0]}.{within.rpartition('.')[2]}", inner) if "=" in within else (within, inner)
    )
    value, base = TABLE.get(key, (choice, ()))
    name, _, option = choice.partition(".")
    if option and path not in LISTS and not any(one.startswith(f"{path}=") for one in base):
        base = (f"{path}.name={name}", *base)
    where = f"{path}.{option}" if option and path not in LISTS else path
    for whole in WHOLE:
        where = whole if where.startswith(f"{whole}.") else where
    return base, (*base, f"{where}={value}")


@pytest.mark.parametrize("key", schema_keys())
def test_a_key_has_an_effect_or_is_refused(key: str, lab: Lab) -> None:
    base, changed = pair(key)
    assert key in TABLE or key.partition("=")[2], f"say in tests/effects what shows the effect of {key}"
    if key in LOOKED:
        look = getattr(looks, LOOKED[key])
        before, after = (looks.seen(look, lab, overrides) for overrides in (base, changed))
        refused = all(str(one).startswith("refused") for one in (before, after))
    else:
        before, after = lab.outcome(base), lab.outcome(changed)
        refused = {*before} == {*after} == {"refused"}
    if key in INERT:
        assert before["model"] == after["model"], f"{key} has an effect: it is not inert any more"
        return
    assert before != after, f"{key} has no effect: from {base} to {changed[-1]}: {str(before)[:200]}"
    assert not refused, f"the base is refused: {before}"


def test_no_line_is_about_a_key_that_is_gone() -> None:
    assert set(TABLE) <= set(schema_keys())

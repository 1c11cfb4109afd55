"""Every number, text, list and mapping of the schema has finite bounds, and no value can be a surprise in them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest

from raysim.config import Experiment
from raysim.config.bounds import ENTRIES, TEXT
from raysim.errors import ConfigError

LIMITS = {
    "integer": (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")),
    "number": (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")),
    "string": (("maxLength", "enum", "const"),),
    "array": (("maxItems",),),
    "object": (("maxProperties", "properties"),),
}
"""Of each type of the JSON schema: what it must state, one of each group."""


def leaves(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every part of a JSON schema that has a type, by its path."""
    if isinstance(schema, list):
        for number, part in enumerate(schema):
            yield from leaves(part, f"{path}[{number}]")
    if not isinstance(schema, dict):
        return
    if isinstance(schema.get("type"), str) and "enum" not in schema:
        yield path, schema
    for key, part in schema.items():
        if key not in ("default", "enum", "required"):
            yield from leaves(part, f"{path}.{key}")


SCHEMA = list(leaves(Experiment.model_json_schema()))


def test_everything_in_the_schema_has_finite_bounds() -> None:
    assert len([one for _, one in SCHEMA if one["type"] in ("integer", "number")]) > 150
    for path, one in SCHEMA:
        for group in LIMITS.get(one["type"], ()):
            stated = [one[key] for key in group if key in one]
            assert stated, f"{path}: none of {group}"
            assert all(not isinstance(bound, float) or math.isfinite(bound) for bound in stated), path


def untyped(schema: Any, checked: bool = False) -> Iterator[Any]:
    """Parts of a core schema that take any value, without a function that looks at it."""
    if isinstance(schema, list | tuple):
        for part in schema:
            yield from untyped(part, checked)
    if not isinstance(schema, dict):
        return
    kind = schema.get("type")
    if kind == "any" and not checked:
        yield schema
    below = checked or kind == "function-after"
    for key, part in schema.items():
        if key != "metadata":
            yield from untyped(part, below if key in ("schema", "values_schema") else False)


def test_what_is_of_no_type_is_looked_at_by_a_function() -> None:
    assert not list(untyped(Experiment.__pydantic_core_schema__))


def refused(values: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        Experiment.parse(values, where="run.yaml")
    return str(caught.value).removeprefix("run.yaml: ")


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (
            {"client": {"batch_size": 10**21}},
            "client.batch_size: expected a whole number of at least 1 and at most 1e+09, or 'full', "
            "got 1000000000000000000000",
        ),
        ({"rounds": 10**30}, f"rounds: input should be less than or equal to 1000000000, got {10**30}"),
        (
            {"model": {"name": "mlp", "hidden": [10**8, 10**8]}},
            "model.hidden[0]: input should be less than or equal to 1000000, got 100000000\n"
            "run.yaml: model.hidden[1]: input should be less than or equal to 1000000, got 100000000",
        ),
        (
            {"data": {"source": {"name": "synthetic", "clients": 10**13}}},
            "data.source.clients: input should be less than or equal to 10000000, got 10000000000000",
        ),
        (
            {"execution": {"threads_per_client": 10**9}},
            "execution.threads_per_client: input should be less than or equal to 1024, got 1000000000",
        ),
        ({"stop": {"seconds": 1e12}}, "stop.seconds: input should be less than or equal to 1e+08, got 1000000000000.0"),
        (
            {"execution": {"faults": {"deadline": 10**12}}},
            "execution.faults.deadline: expected a number above 0 and at most 1e+08, or 'auto', got 1000000000000",
        ),
        (
            {"client": {"optimizer": {"lr": 1e300}}},
            "client.optimizer.lr: input should be less than or equal to 1e+38, got 1e+300",
        ),
        ({"client": {"optimizer": {"lr": True}}}, "client.optimizer.lr: expected a number, got True"),
        ({"algorithm": {"name": "scaffold", "option": True}}, "algorithm.option: expected a number, got True"),
        (
            {"tracking": {"directory": "d" * (TEXT + 1)}},
            f"tracking.directory: string should have at most {TEXT} characters, got '{'d' * 78}…",
        ),
        (
            {"data": {"source": {"name": "csv", "path": "x", "label": "y", "ignore": ["a"] * (ENTRIES + 1)}}},
            f"data.source.ignore: tuple should have at most {ENTRIES} items after validation, not 1000001, "
            f"got {str(['a'] * 20)[:79]}…",
        ),
    ],
)
def test_an_absurd_value_is_one_line_with_the_limit(values: Any, line: str) -> None:
    assert refused(values) == line


def test_negative_zero_is_zero() -> None:
    experiment = Experiment.parse({"client": {"optimizer": {"weight_decay": -0.0}}})
    assert experiment == Experiment()


WITH_ITSELF: list[Any] = []
WITH_ITSELF.append(WITH_ITSELF)
MANY: list[Any] = ["x"]
for _ in range(35):
    MANY = [MANY, MANY]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (WITH_ITSELF, "more than 40 lists and mappings within each other, or than 100,000 values in all"),
        (MANY, "more than 40 lists and mappings within each other, or than 100,000 values in all"),
        (object(), "a object cannot be written down"),
        ({1, 2}, "a set cannot be written down"),
        (b"bytes", "a bytes cannot be written down"),
        (math.nan, "a number is not within -1e+38 and 1e+38"),
        (math.inf, "a number is not within -1e+38 and 1e+38"),
        (10**400, "a number is not within -9.22337e+18 and 9.22337e+18"),
        ("x" * (TEXT + 1), f"a text of {TEXT + 1:,} characters; at most {TEXT:,} are kept"),
        ({1: "x"}, "the key 1 is no text; quote it"),
        ({None: "x"}, "the key None is no text; quote it"),
    ],
)
def test_arguments_are_plain_values(value: Any, reason: str) -> None:
    line = refused({"model": {"name": "my:net", "args": {"depth": value}}})
    assert line.startswith(f"model.args: {reason}")
    assert len(line) < 250


def test_arguments_and_choices_may_be_times_bytes_and_seeds() -> None:
    values = [1_700_000_000, 4 << 30, -(2**63) + 1, 2**63 - 1]
    experiment = Experiment.parse({
        "model": {"name": "my:net", "args": {"since": values}},
        "tuning": {"space": {"execution.shard_memory": {"choices": values}}},
    })  # fmt: skip
    assert experiment.model.to_dict()["args"]["since"] == values
    assert experiment.tuning.space["execution.shard_memory"].choices == tuple(values)


def test_arguments_are_the_same_after_a_resume() -> None:
    args = {"sizes": (3, 4), "rate": 0.5, "names": {"a": [None, True]}}
    experiment = Experiment.parse({"model": {"name": "my:net", "args": args}})
    assert experiment.model.to_dict()["args"] == {"sizes": [3, 4], "rate": 0.5, "names": {"a": [None, True]}}
    assert Experiment.parse(experiment.to_dict()) == experiment

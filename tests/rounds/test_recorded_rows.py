"""Rows of clients and messages of rows against what Arrow makes of the same values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raysim.rounds.message_forms import MessageForm
from raysim.rounds.rows import CLIENT_SCHEMA, client_batch


def values(n: int) -> dict[str, Any]:
    """Values of every column for clients in no order; some have no loss."""
    random = np.random.default_rng(n)
    numbers: dict[str, Any] = {name: random.integers(0, 2**40, n) for name in ("client", "samples", "steps")}
    numbers |= {name: random.random(n) for name in ("weight", "loss", "seconds")}
    numbers["loss"][::3] = np.nan
    return {**numbers, "worker": random.integers(-1, 9, n), "wire_up": random.integers(0, 2**40, n), "wire_down": 7}


@pytest.mark.parametrize("n", [0, 1, 2, 7, 64])
@pytest.mark.parametrize("why", [None, "not finite"])
def test_rows_of_clients_have_the_values_that_were_given(n: int, why: str | None) -> None:
    given = values(n)
    dropped = [why if i == 1 else None for i in range(n)]
    found = client_batch(round=3, **given, dropped=dropped)
    found.validate(full=True)
    plain = {**given, "round": 3, "dropped": pa.array(dropped, pa.string())}
    arrays = [
        plain[one.name] if one.name == "dropped" else pa.array(np.broadcast_to(plain[one.name], n).astype(kind))
        for one, kind in zip(CLIENT_SCHEMA, [one.type.to_pandas_dtype() for one in CLIENT_SCHEMA], strict=True)
    ]
    expected = pa.RecordBatch.from_arrays(arrays, schema=CLIENT_SCHEMA)
    assert found.schema.equals(CLIENT_SCHEMA)
    assert str(found.to_pylist()) == str(expected.to_pylist())
    assert (found["dropped"].null_count == n) == (why is None or n < 2)


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        client_batch(round=1, **{**values(3), "steps": np.zeros(2)})


def test_rows_of_clients_are_memory_of_their_own() -> None:
    samples = np.arange(4)
    first = client_batch(round=1, **{**values(4), "samples": samples})
    samples += 1
    second = client_batch(round=1, **{**values(4), "samples": samples})
    assert (first["samples"].to_pylist(), second["samples"].to_pylist()) == ([0, 1, 2, 3], [1, 2, 3, 4])


def test_a_message_is_the_one_that_arrow_makes_of_these_numbers() -> None:
    schema = pa.schema([("a", pa.int32()), ("text", pa.string()), ("b", pa.float64()), ("c", pa.float64())])

    def row(a: int, b: float) -> pa.RecordBatch:
        return pa.RecordBatch.from_pylist([{"a": a, "text": "same", "b": b}], schema)

    form = MessageForm(row(1, 0.5), ["b", "a"])
    for a, b in ((-7, 1e300), (2**31 - 1, float("nan"))):
        message = form.message((b, a))
        assert message == row(a, b).serialize().to_pybytes()
        assert np.frombuffer(message, "<i4", 1, form.offsets["a"])[0] == a

"""A sum in chunks is the whole sum, bit for bit, whoever adds up which chunk."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raysim.aggregation import Buffers, ColumnSums, Field, PartialSum, RunningSum, chunks_of, combine, cut, sum_fields
from raysim.aggregation.records import column_mean

FIELDS = (Field("update", 23), Field("control", 17), Field("share", 1, summed=True), Field("none", 0))


def leases_of(fields: Sequence[Field], clients: Sequence[int]) -> list[PartialSum]:
    """Sums of so many clients each; some of nobody."""
    sums, position, weight = [], 0, 1 / max(1, sum(clients))
    for count in clients:
        running = RunningSum(3, fields, torch.device("cpu"))
        for _ in range(count):
            sent = {f.name: torch.from_numpy(values_of(f.size, position)).float()[None] for f in fields}
            running.fold(np.array([position], dtype=np.int32), np.array([weight]), sent)
            position += 1
        total = running.seal()
        for vector in total.totals.values():
            vector.flags.writeable = False  # as the object store hands them out
        sums.append(total)
    return sums


def values_of(size: int, seed: int) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal(size)


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 40), max_size=3),
    st.lists(st.integers(0, 3), min_size=1, max_size=5).filter(any),
    st.integers(1, 9),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_chunks_combined_apart_are_read_as_the_whole_sums(
    sizes: list[int], clients: list[int], chunks: int, exact: bool, chance: random.Random
) -> None:
    named = [Field(f"field {i}", size) for i, size in enumerate(sizes)]
    fields = sum_fields([*FIELDS, *named], exact=exact)
    sums = leases_of(fields, clients)
    weight = sum(one.weight for one in sums) / 2.0**52
    near = chance.randint(1, len(sums))
    buffers = Buffers()
    whole = [combine(sums[:near], buffers), *sums[near:]]
    added = [combine(same, buffers) for same in zip(*(cut(one, chunks) for one in sums[:near]), strict=True)]
    travelled = [*added, *(chunk for one in sums[near:] for chunk in cut(one, chunks))]
    assert len(added) == chunks
    if exact:  # in float32 too each chunk has its sums in the same order, but need not come in order of its columns
        chance.shuffle(added)
        travelled = [*added, *travelled[chunks:]]
    found = ColumnSums(travelled, fields)
    assert found.positions.tolist() == list(range(sum(clients)))
    assert found.weight == sum(one.weight for one in sums)
    for field in fields:
        start = chance.randint(0, field.size)
        columns = slice(start, chance.randint(start, field.size))
        for part in (columns, slice(0, field.size)):
            np.testing.assert_array_equal(found.mean(field, part), column_mean(whole, field, weight, part))


def test_a_chunk_is_a_view_of_some_columns_of_every_field() -> None:
    (total,) = leases_of(FIELDS, [2])
    chunks = cut(total, 4)
    assert [chunk.start for chunk in chunks] == [0, 5, 11, 17]
    assert [len(chunk.totals["control"]) for chunk in chunks] == [5, 6, 6, 0]
    assert [len(chunk.totals["share"]) for chunk in chunks] == [1, 0, 0, 0]
    for chunk in chunks:
        assert np.shares_memory(chunk.totals["update"], total.totals["update"])
        assert (chunk.round, chunk.weight) == (total.round, total.weight)
        assert chunk.positions is total.positions


def test_only_large_sums_are_cut_and_their_layout_alone_says_into_how_many() -> None:
    assert chunks_of([]) == chunks_of(FIELDS) == 1
    just_fits = Field("update", 4 * 2**20)
    assert chunks_of([just_fits]) == 1
    assert chunks_of([just_fits, Field("share", 1)]) == 2
    assert chunks_of(sum_fields([Field("update", 100_000_000)], exact=True)) == 24
    assert chunks_of(sum_fields([Field("update", 100_000_000)], exact=False)) == 12
    (total,) = leases_of(FIELDS, [1])
    assert cut(total, 1) == [total]


def test_chunks_of_other_columns_other_clients_or_too_few_are_refused() -> None:
    one, other = (cut(total, 3) for total in leases_of(FIELDS, [2, 1]))
    assert ColumnSums([*one, *other], FIELDS).positions.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="different columns"):
        combine([one[0], other[1]])
    for missing in (0, 1, 2):
        with pytest.raises(ValueError, match="missing"):
            ColumnSums([*one[:missing], *one[missing + 1 :], *other[:missing], *other[missing + 1 :]], FIELDS)
    with pytest.raises(ValueError, match="not of the same clients"):
        ColumnSums([*one, *other[:2]], FIELDS)
    with pytest.raises(ValueError, match="in two partial sums"):
        ColumnSums([*one, *other, *one], FIELDS)
    with pytest.raises(ValueError, match="nothing to combine"):
        ColumnSums([], FIELDS)

"""Which classes are taken for which: counted exactly, in any ranges."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch

from raysim.data import DataInfo
from raysim.training.metrics import ConfusionCounts, added_pairs

CLASSES = 5
INFO = DataInfo("classification", (3,), "real", classes=CLASSES)


def batches(weighted: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    generator = torch.Generator().manual_seed(0)
    output, target = (
        torch.randn(90, CLASSES, generator=generator),
        torch.randint(0, CLASSES, (90,), generator=generator),
    )
    return output, target, torch.arange(90) % 3 if weighted else None


def test_pairs_are_those_of_a_plain_loop_over_any_ranges_and_masked_samples_count_for_nothing() -> None:
    for weighted in (False, True):
        output, target, weight = batches(weighted)
        expected: Counter[int] = Counter()
        for i in range(90):
            if weight is None or weight[i]:
                expected[int(target[i]) * CLASSES + int(output[i].argmax())] += 1
        parts = []
        for span in (slice(0, 31), slice(31, 40), slice(40, 90)):
            counts = ConfusionCounts.of(INFO)
            assert counts is not None
            middle = (span.start + span.stop) // 2
            for piece in (slice(span.start, middle), slice(middle, span.stop)):
                counts.add(output[piece], target[piece], None if weight is None else weight[piece])
            found = counts.counts()
            assert found is not None
            parts.append(found)
        for order in (parts, parts[::-1]):
            codes, counted = added_pairs(order)
            assert dict(zip(codes.tolist(), counted.tolist(), strict=True)) == dict(expected)
            assert (np.diff(codes) > 0).all()
    assert [len(one) for one in added_pairs([])] == [0, 0]


def test_outputs_that_are_no_classes_and_samples_without_one_class_each_are_not_counted() -> None:
    counts = ConfusionCounts.of(INFO)
    assert counts is not None
    counts.add(torch.zeros(4, 7), torch.zeros(4, dtype=torch.long), None)
    assert counts.counts() is None
    assert ConfusionCounts.of(DataInfo("regression", (3,), "real")) is None
    assert ConfusionCounts.of(DataInfo("classification", (8,), "tokens", (8,), 9, 9)) is None

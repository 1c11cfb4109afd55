"""Values on their way to the training device: pinned and without waiting to a GPU, and as they are on a CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from raysim.data import Samples
from raysim.training import Shard, copied, copy_into, to_device

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


class FakeGpu:
    """Stands in for CUDA, which is not there: keeps what was allocated pinned, and what was sent without waiting."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.pinned: list[int] = []
        self.sent: list[tuple[int, torch.device, bool]] = []
        empty, to = torch.empty, Tensor.to

        def pinned_empty(*size: Any, pin_memory: bool = False, **options: Any) -> Tensor:
            found: Tensor = empty(*size, **options)
            if pin_memory:
                self.pinned.append(found.data_ptr())
            return found

        def sent_to(tensor: Tensor, *given: Any, non_blocking: bool = False, **options: Any) -> Tensor:
            if given and isinstance(given[0], torch.device) and given[0].type == "cuda":
                self.sent.append((tensor.data_ptr(), given[0], non_blocking))
                return tensor.clone()
            found: Tensor = to(tensor, *given, non_blocking=non_blocking, **options)
            return found

        patch.setattr(torch, "empty", pinned_empty)
        patch.setattr(Tensor, "to", sent_to)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    return FakeGpu(monkeypatch)


@pytest.mark.parametrize("values", [np.arange(5), np.ones((2, 3), np.float32), np.array([True, False])])
def test_a_gpu_gets_values_from_pinned_memory_without_waiting(values: Any, gpu: FakeGpu) -> None:
    for send in (to_device, copied):
        assert np.array_equal(send(values, GPU).numpy(), values)
    assert np.array_equal(to_device(torch.from_numpy(values), GPU).numpy(), values)
    assert gpu.sent == [(pointer, GPU, True) for pointer in gpu.pinned]
    assert len(gpu.pinned) == 3


def test_a_cpu_shares_what_it_is_given_and_pins_nothing(gpu: FakeGpu) -> None:
    values = np.arange(6.0, dtype=np.float32)
    for given in (values, torch.from_numpy(values)):
        assert to_device(given, CPU).data_ptr() == values.ctypes.data
    own = copied(values, CPU)
    assert own.data_ptr() != values.ctypes.data
    assert own.data_ptr() % 64 == 0
    place = torch.zeros(6)
    copy_into(place, values)
    assert torch.equal(own, place)
    assert (gpu.pinned, gpu.sent) == ([], [])


def test_a_shard_goes_pinned_to_a_gpu_and_is_one_copy_on_a_cpu(gpu: FakeGpu) -> None:
    samples = Samples(np.zeros((4, 3), np.uint8), np.arange(4), None)
    Shard.load(samples, CPU)
    assert gpu.pinned == []
    Shard.load(samples, GPU)
    assert len(gpu.pinned) == 2
    assert [(device, waits) for _, device, waits in gpu.sent] == [(GPU, True)] * 2


def test_what_is_put_into_memory_of_a_gpu_was_pinned(gpu: FakeGpu) -> None:
    class Place:
        device = GPU

        def copy_(self, staged: Tensor, *, non_blocking: bool) -> None:
            assert non_blocking
            assert staged.data_ptr() in gpu.pinned
            self.values = staged.tolist()

    place: Any = Place()
    copy_into(place, np.array([1.0, 2.0], np.float32))
    assert place.values == [1.0, 2.0]

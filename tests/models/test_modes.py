"""A submodule trains in the mode that its author left it in."""

from __future__ import annotations

import copy

import pytest
from torch import nn

from raysim.models import fingerprint
from raysim.models.modes import TrainingModes


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5)), nn.Linear(4, 2))


def modes(module: nn.Module) -> list[bool]:
    return [one.training for one in module.modules()]


class Frozen(nn.BatchNorm1d):
    """Keeps itself in evaluation mode."""

    def train(self, mode: bool = True) -> Frozen:
        super().train(False)
        return self


class Told(nn.Linear):
    """Counts how often it is put into evaluation mode."""

    told = 0

    def train(self, mode: bool = True) -> Told:
        super().train(mode)
        self.told += not mode
        return self


@pytest.mark.parametrize("frozen", [[], [1], [2], [1, 2, 3], [1, 3], [2, 4]])
def test_training_restores_the_modes_that_a_module_was_handed_over_with(frozen: list[int]) -> None:
    module = net()
    for i in frozen:
        list(module.modules())[i].training = False
    before, kept = modes(module), TrainingModes(module)
    for _ in range(2):
        module.eval()
        kept.train()
        assert modes(module) == before


def test_a_module_wholly_in_evaluation_mode_trains_as_a_whole() -> None:
    module = net().eval()
    TrainingModes(module).train()
    assert all(modes(module))


def test_a_module_may_have_a_train_of_its_own() -> None:
    module = nn.Sequential(Frozen(4), Told(4, 4))
    module[1].eval()
    kept = TrainingModes(module)
    module.train()
    kept.train()
    assert modes(module) == [True, False, False]
    assert module[1].told == 2


def test_modes_are_part_of_what_a_module_is_recognised_by() -> None:
    module = net()
    part = copy.deepcopy(module)
    part[1].eval()
    assert fingerprint(module) == fingerprint(copy.deepcopy(module).eval())
    assert fingerprint(module) != fingerprint(part)

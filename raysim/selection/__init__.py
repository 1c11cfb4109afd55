"""Which clients take part in a round, and with what weight."""

from __future__ import annotations

from raysim.config import Experiment
from raysim.config.algorithms import CentralisedConfig
from raysim.config.base import CustomConfig
from raysim.data import Federation
from raysim.errors import ConfigError
from raysim.selection.base import Measure, Selection, State, losses_of
from raysim.selection.custom import CustomSelection, selection_class
from raysim.selection.drawn import Drawn
from raysim.selection.oort import Oort
from raysim.selection.power_of_choice import PowerOfChoice
from raysim.selection.state import load_state, save_state
from raysim.training import LocalWork

SELECTIONS: dict[str, type[Selection]] = {
    "uniform": Drawn,
    "poisson": Drawn,
    "round_robin": Drawn,
    "clustered": Drawn,
    "power_of_choice": PowerOfChoice,
    "oort": Oort,
}
"""Every selection by its name in the configuration."""


def build_selection(experiment: Experiment, federation: Federation, work: LocalWork) -> Selection:
    """The selection that the configuration names; centralised training has one client, whatever it names.

    Raises:
        ConfigError: its cohorts cannot be drawn from this federation, or an import string names something that is no
            `Selection`.
        UserCodeError: the constructor of a class of the user's own fails.
    """
    config = experiment.selection
    if isinstance(experiment.algorithm, CentralisedConfig):
        return Drawn(experiment, federation, work)
    if isinstance(config, CustomConfig):
        selection: Selection = CustomSelection(config, experiment, federation, work)
    else:
        selection = SELECTIONS[config.name](experiment, federation, work)
    if selection.adaptive and work.rounds > 1:
        raise ConfigError(
            f"selection: {experiment.algorithm.name} keeps each cohort for {work.rounds} rounds, and {config.name} "
            "chooses anew in each; set selection to uniform"
        )
    return selection


def is_adaptive(experiment: Experiment) -> bool:
    """Whether cohorts depend on the rounds before, so that no round can be worked on ahead.

    Raises:
        ConfigError: an import string names something that is no `Selection`.
    """
    config = experiment.selection
    if isinstance(experiment.algorithm, CentralisedConfig):
        return False
    return (selection_class(config) if isinstance(config, CustomConfig) else SELECTIONS[config.name]).adaptive


__all__ = [
    "SELECTIONS",
    "Measure",
    "Selection",
    "State",
    "build_selection",
    "is_adaptive",
    "load_state",
    "losses_of",
    "save_state",
]

"""Apps of Flower, unchanged, on raysim's actors or in this process.

The app's ServerApp runs in the driver. Its grid is a `DrivenGrid`: messages go to actors that run the app's ClientApp,
and replies come back in the order of node ids. What a run leaves behind is a run directory of its own kind.
"""

from raysim.adapters.flower.apps import FlowerApp, find_app
from raysim.adapters.flower.folder import is_flower_run
from raysim.adapters.flower.simulation import FlowerResult, FlowerSimulation

__all__ = ["FlowerApp", "FlowerResult", "FlowerSimulation", "find_app", "is_flower_run"]

"""The experiment's schema and how it is read. Knows neither Ray nor torch."""

from raysim.config.experiment import Experiment
from raysim.config.imports import import_folders, importable, load
from raysim.config.loading import read_yaml

__all__ = ["Experiment", "import_folders", "importable", "load", "read_yaml"]

"""The `data` section: where samples come from, how they are cleaned, and how they are dealt to clients."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from raysim.config.base import Section
from raysim.config.bounds import SEED
from raysim.config.imbalance import AugmentationConfig, ImbalanceConfig, NoAugmentationConfig
from raysim.config.partition import IidPartitionConfig, PartitionConfig
from raysim.config.sources import BundledConfig, SourceConfig
from raysim.config.splitting import RandomSplitConfig, SplitConfig
from raysim.config.text import CorpusConfig
from raysim.config.transforms import TransformConfig

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


class LabelNoiseConfig(Section):
    """Wrong labels in the training samples of some clients; their holdouts and the server's sets stay as they are."""

    clients: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Ids of the clients."""
    fraction: float = Field(0.6, ge=0, le=1)
    """Share of each one's training samples whose label becomes another class, each equally likely."""


class DataConfig(Section):
    """Where samples come from, how they are cleaned, and how they are dealt to clients."""

    source: SourceConfig = BundledConfig()
    """Data set, by name or import string."""
    classes: tuple[str, ...] | None = None
    """Names of the labels 0, 1, …; by default those of the source, where it has any."""
    transforms: tuple[TransformConfig, ...] = ()
    """Cleaning and preprocessing, in this order; statistics come from the training part only."""
    partition: PartitionConfig = IidPartitionConfig()
    """How training samples are dealt to clients (ignored by `synthetic_virtual`)."""
    imbalance: ImbalanceConfig = ImbalanceConfig()
    """Classes to make rare in the training part, to study methods for imbalance."""
    augmentation: AugmentationConfig = NoAugmentationConfig()
    """More training samples of each client's rare classes, made once from those that it has."""
    noise: LabelNoiseConfig = LabelNoiseConfig()
    """Labels to spoil, to study how a method treats mislabelled clients."""
    split: SplitConfig = RandomSplitConfig()
    """Which samples the shares `test` and `validation` are: at random, of each class, whole groups, or the latest."""
    test: Fraction = 0.2
    """Share of the samples kept for testing, where the source has no test set of its own."""
    validation: Fraction = 0.0
    """Share of the training samples kept on the server for tuning and early stopping."""
    holdout: Fraction = 0.0
    """Share of each client's samples kept to evaluate the model on that client."""
    seed: int | None = Field(None, ge=-SEED, le=SEED)
    """Seed of the splits and the partition; by default the experiment's."""
    cache: str | None = None
    """Folder of the shard store; by default `$RAYSIM_CACHE`, then `~/.cache/raysim`."""
    label_histograms: bool = True
    """Store each client's label histogram beside the shards (classification only)."""

    @model_validator(mode="after")
    def _labels_are_for_something(self) -> DataConfig:
        source = self.source
        if not isinstance(source, CorpusConfig) or source.label is None or source.task != "causal_lm":
            return self
        if not source.packed and self.partition.name in ("iid", "natural", "quantity"):
            raise ValueError(
                f"source.label ({source.label}) parts texts to continue where they are packed, or where a partition "
                f"deals by label, and {self.partition.name} does not; remove it, or use e.g. dirichlet"
            )
        return self

"""Classes of unequal size in the training data: how to make them, and how to make more of the rare ones."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag

from raysim.config.base import BY_NAME, SHORTHAND, Section


class ImbalanceConfig(Section):
    """Fewer training samples of some classes; the validation and test set stay as they are."""

    ratio: float = Field(1.0, ge=1)
    """Samples of the most frequent class for each of the rarest; 1 leaves all samples where they are."""
    profile: Literal["exponential", "step"] = "exponential"
    """`exponential`: a long tail, each class rarer than the one before by the same factor (Cui et al. 2019); `step`:
    some classes are rarer by the whole ratio, the others equally frequent (Buda et al. 2018)."""
    minority: float = Field(0.5, gt=0, lt=1)
    """Share of the classes that are rare, with `step`."""
    order: Literal["shuffled", "label"] = "shuffled"
    """Which classes are rare: a keyed choice, or those with the highest numbers."""


# `data.augmentation`


class NoAugmentationConfig(Section):
    """Clients train on the samples that they have."""

    name: Literal["none"] = "none"


class BaseAugmentationConfig(Section):
    """What every augmentation takes."""

    to: float = Field(1.0, gt=0, le=1)
    """A client's rare classes grow to this share of the samples of its largest class."""
    most: float | None = Field(None, gt=1)
    """No class grows beyond this factor."""


class ImageAugmentationConfig(BaseAugmentationConfig):
    """Images that are shifted, rotated and noisy."""

    name: Literal["images"] = "images"
    shift: int = Field(1, ge=0)
    """Largest shift in pixels, in each direction."""
    rotate: float = Field(10.0, ge=0, le=180)
    """Largest rotation in degrees, in either direction."""
    noise: float = Field(0.0, ge=0)
    """Standard deviation of Gaussian noise on each value, as a share of the values' range."""


class JitterConfig(BaseAugmentationConfig):
    """Features with Gaussian noise, for tables."""

    name: Literal["jitter"] = "jitter"
    scale: float = Field(0.1, gt=0)
    """Standard deviation of the noise, as a share of each feature's on the client; columns of 0 and 1 stay as they
    are."""


class SmoteConfig(BaseAugmentationConfig):
    """SMOTE: between a sample and a neighbour of its class (Chawla et al. 2002). Needs `imbalanced-learn`."""

    name: Literal["smote"] = "smote"
    neighbours: int = Field(5, ge=1)
    """Nearest neighbours to choose from; fewer where a class has fewer. A class of one sample does not grow."""


AugmentationConfig = Annotated[
    Annotated[NoAugmentationConfig, Tag("none")]
    | Annotated[ImageAugmentationConfig, Tag("images")]
    | Annotated[JitterConfig, Tag("jitter")]
    | Annotated[SmoteConfig, Tag("smote")],
    BY_NAME,
    SHORTHAND,
]

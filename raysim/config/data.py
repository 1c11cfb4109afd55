"""The `data` section: where samples come from, how they are cleaned, and how they are dealt to clients."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag, model_validator

from raysim.config.base import BY_NAME, SHORTHAND, Custom, Section
from raysim.config.imbalance import AugmentationConfig, Imbalance, NoAugmentation

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


# Sources


class Bundled(Section):
    """Real data that ships with scikit-learn: no download, no files."""

    name: Literal["digits", "breast_cancer", "wine", "diabetes"] = "digits"


class Mnist(Section):
    """MNIST's four IDX files, plain or gzipped; or any data set in the same layout (Fashion-MNIST, EMNIST, …)."""

    name: Literal["mnist"] = "mnist"
    path: str | None = None
    """Folder of the files; by default `$RAYSIM_DATA/mnist`, then what `raysim data import mnist` stored."""


class Idx(Section):
    """Any IDX pair of samples and labels, plain or gzipped."""

    name: Literal["idx"] = "idx"
    features: str
    """IDX file of the samples, first dimension the sample."""
    labels: str
    """IDX file of the labels."""
    test_features: str | None = None
    """IDX file of the test samples; without it `data.test` is split off."""
    test_labels: str | None = None
    """IDX file of the test labels."""


class Cifar10(Section):
    """CIFAR-10's binary version: `data_batch_*.bin` and `test_batch.bin`."""

    name: Literal["cifar10"] = "cifar10"
    path: str | None = None
    """Folder of the files; by default `$RAYSIM_DATA/cifar-10-batches-bin`, then what `raysim data import` stored."""


class Table(Section):
    """A CSV file (plain or gzipped) or a Parquet file: one row a sample."""

    name: Literal["csv", "parquet"] = "csv"
    path: str
    """The file."""
    label: str
    """Column to predict."""
    features: tuple[str, ...] | None = None
    """Columns to learn from; by default every column but the label, the client and the ignored ones."""
    ignore: tuple[str, ...] = ()
    """Columns to leave out."""
    client: str | None = None
    """Column that says whose row it is, for `partition: natural`."""
    task: Literal["classification", "regression"] = "classification"
    """Whether the label is a class or a number."""


class Npz(Section):
    """A NumPy archive with arrays `x`, `y` and, if at hand, `x_test`, `y_test`, `client`, `client_test`, `weight`."""

    name: Literal["npz"] = "npz"
    path: str
    """The file."""
    task: Literal["classification", "regression"] = "classification"
    """Whether `y` is a class or a number."""


class Text(Section):
    """Next-character prediction on texts, each with a natural owner such as a speaking role."""

    name: Literal["text"] = "text"
    path: str | None = None
    """Parquet with columns `client` and `text`, or JSON (plain or gzipped) `{client: text}`; by default the bundled
    Shakespeare, a few dozen roles."""
    sequence_length: int = Field(80, ge=1)
    """Characters of one sample; the target is the same text one character later."""
    tokens: Literal["characters", "bytes"] = "characters"
    """`characters` builds a vocabulary from the training texts; `bytes` always has 256."""
    min_characters: int = Field(0, ge=0)
    """Owners with less text are left out."""


class Synthetic(Section):
    """FedProx's Synthetic(alpha, beta): softmax regression in 60 dimensions (Li et al. 2020, section 5.1)."""

    name: Literal["synthetic"] = "synthetic"
    alpha: float = Field(0.0, ge=0)
    """Standard deviation between clients of their optimal models."""
    beta: float = Field(0.0, ge=0)
    """Standard deviation between clients of their data's mean."""
    iid: bool = False
    """One model and one data distribution for all clients."""
    clients: int = Field(30, ge=1)
    """Natural clients; use with `partition: natural`."""
    dimensions: int = Field(60, ge=1)
    """Features of a sample."""
    classes: int = Field(10, ge=2)
    """Classes."""


class SyntheticVirtual(Section):
    """Synthetic clients generated on the worker when they are sampled: populations of millions cost nothing."""

    name: Literal["synthetic_virtual"] = "synthetic_virtual"
    clients: int = Field(1_000_000, ge=1)
    """Population."""
    samples: int = Field(60, ge=1)
    """Training samples of each client."""
    alpha: float = Field(0.0, ge=0)
    """Standard deviation between clients of their optimal models."""
    beta: float = Field(0.0, ge=0)
    """Standard deviation between clients of their data's mean."""
    iid: bool = True
    """One model and one data distribution for all clients."""
    dimensions: int = Field(60, ge=1)
    """Features of a sample."""
    classes: int = Field(10, ge=2)
    """Classes."""
    test_samples: int = Field(6000, ge=1)
    """Samples of the test set, drawn from clients outside the population."""
    on_disk: bool = False
    """Write the shards to the shard store instead of generating them when they are needed."""


class InMemory(Section):
    """Arrays handed to `Simulation(experiment, data=…)`. Written by raysim, not by hand."""

    name: Literal["in_memory"] = "in_memory"
    fingerprint: str = ""
    """SHA-256 of the arrays: a resume must bring the same ones."""


SourceConfig = Annotated[
    Annotated[Bundled, Tag("digits")]
    | Annotated[Bundled, Tag("breast_cancer")]
    | Annotated[Bundled, Tag("wine")]
    | Annotated[Bundled, Tag("diabetes")]
    | Annotated[Mnist, Tag("mnist")]
    | Annotated[Idx, Tag("idx")]
    | Annotated[Cifar10, Tag("cifar10")]
    | Annotated[Table, Tag("csv")]
    | Annotated[Table, Tag("parquet")]
    | Annotated[Npz, Tag("npz")]
    | Annotated[Text, Tag("text")]
    | Annotated[Synthetic, Tag("synthetic")]
    | Annotated[SyntheticVirtual, Tag("synthetic_virtual")]
    | Annotated[InMemory, Tag("in_memory")]
    | Annotated[Custom, Tag("custom")],
    BY_NAME,
    SHORTHAND,
]


# Cleaning and preprocessing


class Missing(Section):
    """Rows with NaN or infinity: drop them, or fill the holes with a statistic of the training part."""

    name: Literal["missing"] = "missing"
    action: Literal["drop", "mean", "median", "zero"] = "drop"
    """`drop` removes the row; the others fill the hole."""


class MinMax(Section):
    """Scale each feature linearly to a range, from the training part's minimum and maximum."""

    name: Literal["min_max"] = "min_max"
    low: float = 0.0
    """Where the minimum goes."""
    high: float = 1.0
    """Where the maximum goes."""

    @model_validator(mode="after")
    def _ordered(self) -> MinMax:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        return self


class Standardise(Section):
    """Subtract the training part's mean of each feature and divide by its standard deviation."""

    name: Literal["standardise"] = "standardise"


class OneHot(Section):
    """Turn categorical columns of a table into one 0/1 column a category seen in training."""

    name: Literal["one_hot"] = "one_hot"
    columns: tuple[str, ...] | None = None
    """Columns to encode; by default every column that is not numeric."""


TransformConfig = Annotated[
    Annotated[Missing, Tag("missing")]
    | Annotated[MinMax, Tag("min_max")]
    | Annotated[Standardise, Tag("standardise")]
    | Annotated[OneHot, Tag("one_hot")],
    BY_NAME,
    SHORTHAND,
]


# Partitioners


class Partition(Section):
    """What every partitioner takes."""

    allow_empty: bool = False
    """Accept clients without training samples; they take part with weight zero."""


class IidPartition(Partition):
    """Shuffle, then deal equal shares."""

    name: Literal["iid"] = "iid"
    clients: int = Field(100, ge=1)
    """Population."""


class ShardsPartition(Partition):
    """Sort by label, cut into equal shards, deal `shards_per_client` to each (McMahan et al. 2017, section 3)."""

    name: Literal["shards"] = "shards"
    clients: int = Field(100, ge=1)
    """Population."""
    shards_per_client: int = Field(2, ge=1)
    """Shards of one client, hence roughly the labels it sees."""


class DirichletPartition(Partition):
    """Label skew: each class is spread over the clients by a Dirichlet draw (Hsu, Qi & Brown 2019; NIID-Bench)."""

    name: Literal["dirichlet"] = "dirichlet"
    clients: int = Field(100, ge=1)
    """Population."""
    alpha: float = Field(0.5, gt=0)
    """Concentration: small is skewed, large is IID."""
    min_size: int = Field(10, ge=0)
    """Smallest client; draws are repeated until every client has that many."""


class ClassesPartition(Partition):
    """Each client holds `classes_per_client` labels, and a label's samples are shared equally by its holders."""

    name: Literal["classes"] = "classes"
    clients: int = Field(100, ge=1)
    """Population."""
    classes_per_client: int = Field(2, ge=1)
    """Labels of one client."""


class QuantityPartition(Partition):
    """IID labels, unequal sizes."""

    name: Literal["quantity"] = "quantity"
    clients: int = Field(100, ge=1)
    """Population."""
    distribution: Literal["power_law", "lognormal"] = "power_law"
    """`power_law`: the client of rank r gets a share ∝ r^-exponent; `lognormal`: shares ∝ exp(sigma·z)."""
    exponent: float = Field(1.0, gt=0)
    """Exponent of the power law."""
    sigma: float = Field(1.0, gt=0)
    """Standard deviation of the log-normal's logarithm."""
    min_size: int = Field(1, ge=0)
    """Smallest client."""


class NaturalPartition(Partition):
    """Every owner in the data (a column, a speaking role, a synthetic client) is a client."""

    name: Literal["natural"] = "natural"
    min_size: int = Field(1, ge=1)
    """Owners with fewer samples are left out."""
    clients: int | None = Field(None, ge=1)
    """Keep this many owners, chosen by the seed; by default all."""


PartitionConfig = Annotated[
    Annotated[IidPartition, Tag("iid")]
    | Annotated[ShardsPartition, Tag("shards")]
    | Annotated[DirichletPartition, Tag("dirichlet")]
    | Annotated[ClassesPartition, Tag("classes")]
    | Annotated[QuantityPartition, Tag("quantity")]
    | Annotated[NaturalPartition, Tag("natural")]
    | Annotated[Custom, Tag("custom")],
    BY_NAME,
    SHORTHAND,
]


class LabelNoise(Section):
    """Wrong labels in the training samples of some clients; their holdouts and the server's sets stay as they are."""

    clients: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Ids of the clients."""
    fraction: float = Field(0.6, ge=0, le=1)
    """Share of each one's training samples whose label becomes another class, each equally likely."""


class DataConfig(Section):
    """Where samples come from, how they are cleaned, and how they are dealt to clients."""

    source: SourceConfig = Bundled()
    """Data set, by name or import string."""
    transforms: tuple[TransformConfig, ...] = ()
    """Cleaning and preprocessing, in this order; statistics come from the training part only."""
    partition: PartitionConfig = IidPartition()
    """How training samples are dealt to clients (ignored by `synthetic_virtual`)."""
    imbalance: Imbalance = Imbalance()
    """Classes to make rare in the training part, to see what a method makes of it."""
    augmentation: AugmentationConfig = NoAugmentation()
    """More training samples of each client's rare classes, made once from those that it has."""
    noise: LabelNoise = LabelNoise()
    """Labels to spoil, to see what a method makes of clients that are wrong."""
    test: Fraction = 0.2
    """Share of the samples kept for testing, where the source has no test set of its own."""
    validation: Fraction = 0.0
    """Share of the training samples kept on the server for tuning and early stopping."""
    holdout: Fraction = 0.0
    """Share of each client's samples kept to evaluate the model on that client."""
    seed: int | None = None
    """Seed of the splits and the partition; by default the experiment's."""
    cache: str | None = None
    """Folder of the shard store; by default `$RAYSIM_CACHE`, then `~/.cache/raysim`."""
    label_histograms: bool = True
    """Store each client's label histogram beside the shards (classification only)."""

"""Where samples come from: `data.source`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag

from raysim.config.base import BY_NAME, SHORTHAND, CustomConfig, Section
from raysim.config.bounds import UNITS
from raysim.config.text import CorpusConfig


class BundledConfig(Section):
    """Real data that ships with scikit-learn: no download, no files."""

    name: Literal["digits", "breast_cancer", "wine", "diabetes"] = "digits"


class MnistConfig(Section):
    """MNIST's four IDX files, plain or gzipped; or any data set in the same layout (Fashion-MNIST, EMNIST, …)."""

    name: Literal["mnist"] = "mnist"
    path: str | None = None
    """Folder of the files; by default `$RAYSIM_DATA/mnist`, then what `raysim data import mnist` stored."""


class IdxConfig(Section):
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


class Cifar10Config(Section):
    """CIFAR-10's binary version: `data_batch_*.bin` and `test_batch.bin`."""

    name: Literal["cifar10"] = "cifar10"
    path: str | None = None
    """Folder of the files; by default `$RAYSIM_DATA/cifar-10-batches-bin`, then what `raysim data import` stored."""


class TableConfig(Section):
    """A CSV file (plain or gzipped) or a Parquet file: one row a sample."""

    name: Literal["csv", "parquet"] = "csv"
    path: str
    """The file."""
    test: str | None = None
    """A file of the same form with the test samples; without it `data.test` is split off. Its owners, where it has the
    column `client`, are evaluated on what is theirs; a row without one is the server's alone."""
    label: str
    """Column to predict."""
    features: tuple[str, ...] | None = None
    """Columns to learn from; by default every column but the label, the client and the ignored ones. The client may be
    among them, such as a user's id."""
    ignore: tuple[str, ...] = ()
    """Columns to leave out."""
    client: str | None = None
    """Column that says whose row it is, for `partition: natural`."""
    na_values: tuple[str, ...] = ()
    """Cells that are holes, such as `"?"`, beside the empty one (and `NA`, `NaN`, `null`, `None` among numbers)."""
    task: Literal["classification", "regression"] = "classification"
    """Whether the label is a class or a number."""


class NpzConfig(Section):
    """A NumPy archive with arrays `x`, `y` and, if at hand, `x_test`, `y_test`, `client`, `client_test`, `weight`,
    `weight_test`."""

    name: Literal["npz"] = "npz"
    path: str
    """The file."""
    task: Literal["classification", "regression"] = "classification"
    """Whether `y` is a class or a number."""


class TextConfig(Section):
    """Next-character prediction on texts, each with a natural owner such as a speaking role."""

    name: Literal["text"] = "text"
    path: str | None = None
    """Parquet with columns `client` and `text`, or JSON (plain or gzipped) `{client: text}`; by default the bundled
    Shakespeare, a few dozen roles."""
    sequence_length: int = Field(80, ge=1, le=UNITS)
    """Characters of one sample; the target is the same text one character later."""
    tokens: Literal["characters", "bytes"] = "characters"
    """`characters` builds a vocabulary from the training texts; `bytes` always has 256."""
    min_characters: int = Field(0, ge=0)
    """Owners with less text are left out."""


class SyntheticConfig(Section):
    """FedProx's Synthetic(alpha, beta): softmax regression in 60 dimensions (Li et al. 2020, section 5.1)."""

    name: Literal["synthetic"] = "synthetic"
    alpha: float = Field(0.0, ge=0)
    """Standard deviation between clients of the mean of their models' weights. As in the authors' code it moves all
    classes of a client alike, which changes no label; clients differ by their own draws and by `beta`."""
    beta: float = Field(0.0, ge=0)
    """Standard deviation between clients of their data's mean."""
    iid: bool = False
    """One model and one data distribution for all clients."""
    clients: int = Field(30, ge=1, le=10_000_000)
    """Natural clients; use with `partition: natural`."""
    sigma: float = Field(2.0, ge=0, le=4)
    """Spread of their sizes: standard deviation of the logarithm of the log-normal that sizes are drawn from."""
    dimensions: int = Field(60, ge=1, le=UNITS)
    """Features of a sample."""
    classes: int = Field(10, ge=2, le=UNITS)
    """Classes."""


class SyntheticVirtualConfig(Section):
    """Synthetic clients generated on the worker when they are sampled: populations of millions cost nothing."""

    name: Literal["synthetic_virtual"] = "synthetic_virtual"
    clients: int = Field(1_000_000, ge=1)
    """Population."""
    samples: int = Field(60, ge=1, le=10_000_000)
    """Training samples of each client."""
    alpha: float = Field(0.0, ge=0)
    """Standard deviation between clients of the mean of their models' weights. As in the authors' code it moves all
    classes of a client alike, which changes no label; clients differ by their own draws and by `beta`."""
    beta: float = Field(0.0, ge=0)
    """Standard deviation between clients of their data's mean."""
    iid: bool = True
    """One model and one data distribution for all clients."""
    dimensions: int = Field(60, ge=1, le=UNITS)
    """Features of a sample."""
    classes: int = Field(10, ge=2, le=UNITS)
    """Classes."""
    test_samples: int = Field(6000, ge=1, le=100_000_000)
    """Samples of the test set, drawn from clients outside the population."""
    on_disk: bool = False
    """Write the shards to the shard store instead of generating them when they are needed."""


class InMemoryConfig(Section):
    """Arrays handed to `Simulation(experiment, data=…)`. Written by raysim, not by hand."""

    name: Literal["in_memory"] = "in_memory"
    fingerprint: str = ""
    """SHA-256 of the arrays: a resume must bring the same ones."""


SourceConfig = Annotated[
    Annotated[BundledConfig, Tag("digits")]
    | Annotated[BundledConfig, Tag("breast_cancer")]
    | Annotated[BundledConfig, Tag("wine")]
    | Annotated[BundledConfig, Tag("diabetes")]
    | Annotated[MnistConfig, Tag("mnist")]
    | Annotated[IdxConfig, Tag("idx")]
    | Annotated[Cifar10Config, Tag("cifar10")]
    | Annotated[TableConfig, Tag("csv")]
    | Annotated[TableConfig, Tag("parquet")]
    | Annotated[NpzConfig, Tag("npz")]
    | Annotated[TextConfig, Tag("text")]
    | Annotated[CorpusConfig, Tag("corpus")]
    | Annotated[SyntheticConfig, Tag("synthetic")]
    | Annotated[SyntheticVirtualConfig, Tag("synthetic_virtual")]
    | Annotated[InMemoryConfig, Tag("in_memory")]
    | Annotated[CustomConfig, Tag("custom")],
    BY_NAME,
    SHORTHAND,
]

"""`raysim data`: build shards, look at them, import data sets."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raysim.cli import printing
from raysim.cli.app import Debug, app, examples
from raysim.cli.options import Config, Overrides, read_experiment
from raysim.config import Experiment
from raysim.outputs import PICTURE

if TYPE_CHECKING:
    from raysim.data import Federation, FederationSpec

SHOWN = 5
"""Clients of each kind in the table: the first, the largest, the smallest."""

SHOWN_LABELS = 6

commands = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
app.add_typer(commands, name="data", help="Build the shards of a federation, look at them, import data sets.")


@commands.command(
    epilog=examples(
        "raysim data build quickstart",
        "raysim data build mnist_2nn data.partition.clients=1000",
        "raysim data build quickstart --verify",
    )
)
def build(
    config: Config = None,
    overrides: Overrides = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every file whole and compare it with its SHA-256 sums.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Build the shards that CONFIG describes, unless they are there, and say where and what they are."""
    experiment = read_experiment(config, overrides, command="data build")
    spec, federation = _open(experiment)
    verified = [("verified", _verified(federation))] if verify else []
    printing.facts([*data_facts(experiment, spec, federation), *verified])


@commands.command(
    epilog=examples(
        "raysim data show quickstart",
        "raysim data show quickstart data.partition.alpha=10 --png even.png",
    )
)
def show(
    config: Config = None,
    overrides: Overrides = None,
    png: Annotated[
        Path | None, typer.Option(help="Where the picture goes; by default <name>-partition.png.", show_default=False)
    ] = None,
    debug: Debug = False,
) -> None:
    """Show the partition: sizes, label skew, some clients, and a picture of clients by labels."""
    experiment = read_experiment(config, overrides, command="data show")
    file = PICTURE.check(png or f"{experiment.name}-partition.png")  # before shards are built
    spec, federation = _open(experiment)
    from raysim.tracking.report.partition import partition_picture

    names = federation.info.class_names
    printing.facts(data_facts(experiment, spec, federation))
    printing.gap()
    _print_clients(federation, names)
    printing.gap()
    title = f"{experiment.data.source.name}, {experiment.data.partition.name} partition"
    printing.facts([("picture", str(partition_picture(federation, file, title=title, class_names=names)))])


@commands.command(
    "import",
    epilog=examples(
        "raysim data import mnist ~/Downloads/mnist",
        "raysim data import cifar10 ~/Downloads/cifar-10-batches-bin",
    ),
)
def import_(
    name: Annotated[str, typer.Argument(metavar="NAME", help="mnist or cifar10.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the downloaded files.")],
) -> None:
    """Copy a data set's files, once checked, to where every experiment finds them, and print where that is."""
    from raysim.data.importing import import_dataset

    typer.echo(import_dataset(name, folder))


def data_facts(experiment: Experiment, spec: FederationSpec, federation: Federation) -> list[tuple[str, str]]:
    """What a federation is, line by line."""
    from raysim.data.class_names import listed_names
    from raysim.data.summary import describe

    found = describe(federation)
    source, partition = experiment.data.source.name, experiment.data.partition.name
    dealt = source if source == "synthetic_virtual" else f"{source}, {partition} partition"
    spread = f"{found.smallest:,} to {found.largest:,} a client (median {found.median:,.0f})"
    lines = [
        ("data", f"{dealt}: {found.clients:,} clients, {found.samples:,} training samples"),
        ("", f"{found.smallest:,} a client" if found.smallest == found.largest else spread),
        ("", f"{found.holdout:,} held out by clients, {found.validation:,} validation, {found.test:,} test"),
    ]
    if counts := federation.counts():
        lines.append(("corpus", ", ".join(f"{count:,} {name}" for name, count in counts.items())))
    if found.owned:
        lines.append(("", f"{found.owned:,} of the test samples are clients' own"))
    if found.skew is not None:
        looked_at = "" if found.inspected == found.clients else f", from {found.inspected:,} clients"
        effective = f"{found.classes_per_client:.1f} effective labels a client"
        lines.append(("", f"label skew {found.skew:.2f} (0 is identical), {effective}{looked_at}"))
    if federation.info.class_names is not None:
        lines.append(("classes", listed_names(federation.info)))
    lines += [("left out" if place == 0 else "", str(one)) for place, one in enumerate(federation.left_out())]
    lines.append(("shards", _folder(spec) or "made on the workers when they are needed"))
    return lines


def data_values(spec: FederationSpec, federation: Federation) -> dict[str, Any]:
    """The same for a program."""
    from raysim.data.summary import describe

    left_out = [asdict(one) for one in federation.left_out()]
    return asdict(describe(federation)) | {
        "counts": dict(federation.counts()),
        "left_out": left_out,
        "shards": _folder(spec),
    }


def _open(experiment: Experiment) -> tuple[FederationSpec, Federation]:
    from raysim.data.build import prepare

    spec = prepare(experiment.data, experiment.data_seed, task=experiment.training.task)
    return spec, spec.open()


def _verified(federation: Federation) -> str:
    """Compare all samples with their checksums, which may take a while; a damaged file is an error that names it."""
    from raysim.data.store import ArrowFederation

    if not isinstance(federation, ArrowFederation):
        return "nothing is stored"
    federation.verify()
    return "every file is as it was written"


def _folder(spec: FederationSpec) -> str | None:
    """Where the shards are; None where they are not stored."""
    from raysim.data.store import StoreSpec

    return spec.path if isinstance(spec, StoreSpec) else None


def _print_clients(federation: Federation, names: tuple[str, ...] | None) -> None:
    import numpy as np

    from raysim.data.store import ArrowFederation

    sizes, holdout = federation.sizes("train"), federation.sizes("holdout")
    by_size = np.argsort(-sizes, kind="stable")
    groups = {
        "first": np.arange(federation.population)[:SHOWN],
        "largest": by_size[:SHOWN],
        "smallest": by_size[-SHOWN:],
    }
    if federation.population <= len(groups) * SHOWN:
        groups = {"": np.arange(federation.population)}
    owned = isinstance(federation, ArrowFederation) and federation.owner(0) is not None
    columns: dict[str, printing.Justify] = {"": "left", "client": "right", "train": "right", "holdout": "right"}
    tests = federation.sizes("test")
    if tests.any():
        columns["test"] = "right"
    if owned:
        columns["owner"] = "left"
    columns["labels"] = "left"
    rows = []
    for group, clients in groups.items():
        for place, client in enumerate(clients.tolist()):
            row = [group if place == 0 else "", str(client), f"{sizes[client]:,}", f"{holdout[client]:,}"]
            if tests.any():
                row.append(f"{tests[client]:,}")
            if isinstance(federation, ArrowFederation) and owned:
                row.append(federation.owner(client) or "")
            rows.append([*row, _labels(federation, client, names)])
    printing.table(columns, rows)


def _labels(federation: Federation, client: int, names: tuple[str, ...] | None) -> str:
    """A client's most frequent labels with their counts; a range where targets are numbers."""
    import numpy as np

    y = federation.shard(client).y
    if not len(y):
        return "–"
    if federation.info.classes is None:
        return f"{y.min():g} to {y.max():g}"
    found, counts = np.unique(y, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    shown = [
        f"{names[found[i]] if names is not None else found[i]}: {counts[i]:,}" for i in order[:SHOWN_LABELS].tolist()
    ]
    return ", ".join(shown) + (", …" if len(found) > SHOWN_LABELS else "")

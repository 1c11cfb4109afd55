"""`raysim data`: build shards, look at them, import data sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raysim.cli import printing
from raysim.cli.app import Debug, app, examples
from raysim.cli.json_outputs import answer, emit
from raysim.cli.json_outputs.files import ImportOutput
from raysim.cli.options import Config, Json, Overrides, read_experiment
from raysim.config import Experiment
from raysim.outputs import PICTURE, ROWS

if TYPE_CHECKING:
    from raysim.cli.json_outputs.data import ShownClient
    from raysim.data import Federation, FederationSpec

SHOWN_LABELS = 6

commands = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
app.add_typer(commands, name="data", help="Build shards, show who holds what, import data sets.")


@commands.command(
    short_help="Build the shards that CONFIG describes.",
    epilog=examples(
        "raysim data build quickstart",
        "raysim data build mnist_2nn data.partition.clients=1000",
        "raysim data build quickstart --verify",
        "raysim data build quickstart --rows rows.parquet",
    ),
)
def build(
    config: Config = None,
    overrides: Overrides = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every file whole and compare it with its SHA-256 sums.")
    ] = False,
    rows: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write which rows of the source are whose to a Parquet file.", show_default=False
        ),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Build the shards that CONFIG describes, unless they are there, and say where and what they are."""
    experiment = read_experiment(config, overrides, command="data build")
    file = None if rows is None else ROWS.check(rows)  # before shards are built
    spec, federation = _open(experiment)
    verified = _verified(federation) if verify else None
    if file is not None:
        from raysim.data.rows import write_rows

        write_rows(experiment, file)
    if json:
        from raysim.cli.json_outputs.data import BuildOutput, DataOutput

        emit(BuildOutput(experiment.name, DataOutput.of(spec, federation), verified, file))
        return
    said = "every file is as it was written" if verified else "nothing is stored"
    more = [("verified", said)] if verify else []
    more += [] if file is None else [("rows", str(file))]
    printing.facts([*data_facts(experiment, spec, federation), *more])


@commands.command(
    short_help="Show who holds what, with a picture.",
    epilog=examples(
        "raysim data show quickstart",
        "raysim data show quickstart data.partition.alpha=10 --png even.png",
    ),
)
def show(
    config: Config = None,
    overrides: Overrides = None,
    png: Annotated[
        Path | None, typer.Option(help="Where the picture goes; by default <name>-partition.png.", show_default=False)
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show the partition: sizes, label skew, some clients, and a picture of clients by labels."""
    experiment = read_experiment(config, overrides, command="data show")
    file = PICTURE.check(png or f"{experiment.name}-partition.png")  # before shards are built
    spec, federation = _open(experiment)
    from raysim.cli.json_outputs.data import DataOutput, ShowOutput, shown_clients
    from raysim.tracking.report.partition import partition_picture

    title = f"{experiment.data.source.name}, {experiment.data.partition.name} partition"
    clients = shown_clients(federation)
    picture = partition_picture(federation, file, title=title, class_names=federation.info.class_names)
    if json:
        emit(ShowOutput(experiment.name, DataOutput.of(spec, federation), clients, picture))
        return
    printing.facts(data_facts(experiment, spec, federation))
    printing.gap()
    _print_clients(clients)
    printing.gap()
    printing.facts([("picture", str(picture))])


@commands.command(
    "import",
    short_help="Copy a data set to where every configuration finds it.",
    epilog=examples(
        "raysim data import mnist ~/Downloads/mnist",
        "raysim data import cifar10 ~/Downloads/cifar-10-batches-bin",
    ),
)
def import_(
    name: Annotated[str, typer.Argument(metavar="NAME", help="mnist or cifar10.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the downloaded files.")],
    json: Json = False,
) -> None:
    """Copy a data set's files, once checked, to where every experiment finds them, and print where that is."""
    from raysim.data.importing import import_dataset

    place = import_dataset(name, folder)
    answer(ImportOutput(name, place), place, json=json)


def data_facts(experiment: Experiment, spec: FederationSpec, federation: Federation) -> list[tuple[str, str]]:
    """What a federation is, line by line."""
    from raysim.cli.json_outputs.data import folder
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
    lines.append(("shards", folder(spec) or "made on the workers when they are needed"))
    return lines


def _open(experiment: Experiment) -> tuple[FederationSpec, Federation]:
    from raysim.data.build import prepare

    spec = prepare(experiment.data, experiment.data_seed, task=experiment.training.task)
    return spec, spec.open()


def _verified(federation: Federation) -> bool | None:
    """Compare all samples with their checksums, which may take a while; a damaged file is an error that names it.

    Returns:
        True, or None where nothing is stored.
    """
    from raysim.data.store import ArrowFederation

    if not isinstance(federation, ArrowFederation):
        return None
    federation.verify()
    return True


def _print_clients(clients: Sequence[ShownClient]) -> None:
    columns: dict[str, printing.Justify] = {"": "left", "client": "right", "train": "right", "holdout": "right"}
    tests, owned = (any(getattr(one, name) for one in clients) for name in ("test", "owner"))
    columns |= {"test": "right"} if tests else {}
    columns |= {"owner": "left"} if owned else {}
    columns["labels"] = "left"
    rows, before = [], ""
    for one in clients:
        row = ["" if one.group == before else one.group, str(one.client), f"{one.train:,}", f"{one.holdout:,}"]
        before = one.group
        row += [f"{one.test:,}"] if tests else []
        row += [one.owner or ""] if owned else []
        rows.append([*row, _labels(one)])
    printing.table(columns, rows)


def _labels(one: ShownClient) -> str:
    """A client's most frequent labels with their counts; a range where targets are numbers."""
    if one.targets is not None:
        return "{:g} to {:g}".format(*one.targets)
    if not one.labels:
        return "–"
    shown = [f"{label}: {count:,}" for label, count in list(one.labels.items())[:SHOWN_LABELS]]
    return ", ".join(shown) + (", …" if len(one.labels) > SHOWN_LABELS else "")

"""`raysim plan`: what a run would take in memory, bytes and time, without running it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raysim.cli import printing
from raysim.cli.app import Debug, app, examples
from raysim.cli.data import data_facts
from raysim.cli.json_outputs import emit
from raysim.cli.options import Config, Json, Overrides, read_experiment
from raysim.cli.timetable import timetable_facts
from raysim.config import Experiment
from raysim.config.running import ExecutionConfig
from raysim.machine import actors_memory, cores, gpu_memory, name

if TYPE_CHECKING:
    from raysim.execution.placement.placing import Placement
    from raysim.execution.placement.slots import Node
    from raysim.execution.preparation.estimate import RoundPlan, RunPlan
    from raysim.execution.preparation.padding import Padding
    from raysim.execution.preparation.prepare import Prepared


@app.command(
    short_help="Show what `raysim run` would do, without training.",
    epilog=examples(
        "raysim plan quickstart",
        "raysim plan million_clients cohort=1000 execution.actors=8",
        "raysim plan mnist_cnn execution.num_gpus=0.25 --json",
    ),
)
def plan(
    config: Config = None,
    overrides: Overrides = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what `raysim run` would do: data, model, a round, actors and their memory. Trains nothing.

    Shards are built if they are not there yet, and everything that a run checks first is checked. A plan that can never
    be placed is refused, with what is short and what to change.
    """
    experiment = read_experiment(config, overrides, command="plan")
    from raysim.execution.preparation.estimate import make_plan
    from raysim.execution.preparation.prepare import prepare_job

    prepared = prepare_job(experiment)
    made = make_plan(prepared, _nodes(prepared.experiment.execution, gpus=prepared.job.engine.device == "cuda"))
    if json:
        from raysim.cli.json_outputs.plan import PlanOutput

        emit(PlanOutput.of(prepared, made))
    else:
        _print(prepared, made)


def _nodes(execution: ExecutionConfig, *, gpus: bool) -> list[Node]:
    """The cluster's nodes, or this machine as a Ray of our own would see it; nodes with GPUs can use them, if asked."""
    if execution.executor == "ray" and execution.address is not None:
        from raysim.cluster.inspection import check_gpus
        from raysim.cluster.runtime import Runtime

        runtime = Runtime.start(execution)
        try:
            if gpus:
                check_gpus(runtime)
            return runtime.nodes()
        finally:
            runtime.close()
    import torch

    from raysim.execution.placement.slots import Node

    count = torch.cuda.device_count()
    memory = (execution.gpu_memory or gpu_memory()) if count else None
    return [Node(name(), cores(), float(count), actors_memory(execution), memory)]


def _print(prepared: Prepared, plan: RunPlan) -> None:
    from raysim.tracking.units import quantity, size

    experiment, a_round, memory = prepared.experiment, plan.round, plan.memory
    expected = "about " if experiment.selection.name == "poisson" else ""
    printing.heading(experiment.name)
    printing.facts(
        [
            *data_facts(experiment, prepared.job.federation, prepared.federation),
            (
                "model",
                f"{experiment.model.name}, {quantity(prepared.parameters)} parameters, {size(4 * prepared.columns)}",
            ),
            *_share(prepared, plan),
            *([] if plan.padding is None else [("padding", _padded(plan.padding))]),
            (
                "round",
                f"{expected}{a_round.cohort:,} of {prepared.federation.population:,} clients, {_steps(a_round)}",
            ),
            (
                "",
                f"{_counted(a_round.leases, 'lease')}, predicted imbalance {a_round.imbalance:.2f}; "
                f"{size(a_round.transport_down)} down, {size(a_round.transport_up)} up",
            ),
            ("", _pace(experiment, a_round)),
            *([] if prepared.adapters is None else [("adapters", prepared.adapters)]),
            *([] if prepared.links is None else [("links", prepared.links)]),
            *timetable_facts(prepared),
            *_privacy(prepared),
            ("actor", f"about {size(memory.total)} of memory: {_parts(plan)}"),
            *(
                [("", f"the actors of a node share a frozen base of {size(memory.base)}, mapped from a file")]
                if memory.base
                else []
            ),
            *([("", f"about {size(memory.gpu)} of its GPU, without activations")] if memory.gpu else []),
            *(
                [("", f"about {size(plan.activations)} of activations in a local step, fused attention assumed")]
                if plan.activations is not None
                else []
            ),
            ("", _where(prepared, plan)),
            ("engine", prepared.engine.reason),
        ]
    )
    printing.gap()
    if plan.placement is not None and len(plan.classes) > 1:
        _print_classes(plan, plan.placement)
        printing.gap()
    _print_nodes(plan)


def _privacy(prepared: Prepared) -> list[tuple[str, str]]:
    """What the run promises, of what noise and sampler, and what else would be claimed."""
    if prepared.privacy is None:
        return []
    from raysim.privacy.plan import accountant_text, cohorts_text, noise_texts, unamplified_text

    found, one = [("privacy", prepared.privacy.sentence)], prepared.privacy.account
    if one is not None:
        found += [("", text) for text in noise_texts(one)]
        found.append(("", f"{cohorts_text(one)}; {accountant_text(one)}"))
        plain = unamplified_text(one, prepared.privacy.last)
        found += [] if plain is None else [("", plain)]
    return found


def _share(prepared: Prepared, plan: RunPlan) -> list[tuple[str, str]]:
    """What of a model with a frozen base trains."""
    from raysim.tracking.units import quantity, size

    whole = plan.whole // 4
    if whole <= prepared.parameters:
        return []
    share = prepared.parameters / whole
    return [
        (
            "",
            f"{share:.3%} of the {quantity(whole)} parameters train; a message is {size(4 * prepared.parameters)}, the "
            f"whole model would be {size(plan.whole)}",
        )
    ]


def _padded(found: Padding) -> str:
    if found.chosen:
        return f"{found.grouped:.1%} of the tokens, with client.buckets={found.buckets}; {found.plain:.1%} without"
    return f"{found.plain:.1%} of the tokens; client.buckets={found.buckets} would leave {found.grouped:.1%}"


def _steps(a_round: RoundPlan) -> str:
    fewest, median, most = a_round.steps
    if fewest == most:
        return f"{_counted(most, 'local step')} each"
    return f"{fewest:,} to {most:,} local steps each (median {median:,.0f})"


def _pace(experiment: Experiment, a_round: RoundPlan) -> str:
    """Which workers train a round, and why."""
    from raysim.selection import is_adaptive
    from raysim.tracking.units import duration

    execution = experiment.execution
    step = f"{'a measured' if a_round.timed else 'a guess of'} {duration(a_round.a_step)} a local step"
    if execution.executor == "inprocess":
        return f"about {duration(a_round.alone)} a round at {step}"
    workers = f"on {_counted(a_round.workers, 'worker')}"
    if execution.clients_per_actor is not None:
        return f"{workers}, the clients' own, never several rounds in a call"
    if execution.classes:
        return f"{workers}, each for the clients of its class, never several rounds in a call"
    why = f"at {step} {duration(a_round.alone)} on one worker, {duration(a_round.shared)} shared"
    if is_adaptive(experiment):
        name = experiment.selection.name
        return f"{workers}, one round after the other (selection {name} looks at the round before); {why}"
    if execution.rounds_ahead == 0:
        return f"{workers}, one round after the other (execution.rounds_ahead is 0); {why}"
    if a_round.batch:
        return f"small: {_counted(a_round.batch, 'round')} in a call to one worker; {why}"
    return f"{workers}, one round in a call; {why}"


def _parts(plan: RunPlan) -> str:
    from raysim.tracking.units import size

    names = {
        "process": "process",
        "model": "model",
        "optimizer": "optimiser",
        "sums": "sum",
        "shard": "largest shard",
        "sets": "server's sets",
    }
    return ", ".join(f"{label} {size(getattr(plan.memory, key))}" for key, label in names.items())


def _where(prepared: Prepared, plan: RunPlan) -> str:
    engine, placement = prepared.job.engine, plan.placement
    together = f", {engine.rows} clients at a time" if engine.name == "rows" else ""
    compiled = ", compiled" if engine.compiled else ""
    how = f"{engine.name} engine{together}{compiled} on {engine.device}, {_counted(engine.threads, 'thread')}"
    if placement is None:
        return f"in process, without Ray: this process is the only worker; {how}"
    share = "" if len(plan.classes) > 1 else f", {placement.num_cpus:g} CPU, {placement.num_gpus:g} GPU each"
    return f"{_counted(placement.actors, 'actor')}{share}; {how}"


def _print_nodes(plan: RunPlan) -> None:
    from raysim.tracking.units import size

    columns: dict[str, printing.Justify] = {"node": "left", "CPUs": "right", "GPUs": "right", "memory": "right"}
    rows: list[list[str]] = [
        [node.id[:16], f"{node.cpus:g}", f"{node.gpus:g}", size(node.memory)] for node in plan.nodes
    ]
    if plan.placement is not None:
        if len(plan.classes) == 1:
            columns |= {"slots": "right", "per GPU": "right"}
        columns |= {"actors": "right", "their memory": "right"}
        for row, node in zip(rows, plan.nodes, strict=True):
            here = plan.placement.nodes.count(node.id)
            if len(plan.classes) == 1:
                row += [str(plan.placement.slots[node.id]), _per_gpu(plan.placement.num_gpus)]
            row += [str(here), size(here * plan.memory.total + (plan.memory.base if here else 0))]
    printing.table(columns, rows)


def _print_classes(plan: RunPlan, placement: Placement) -> None:
    """Each class of clients, what its actors have, and how many of them are on each node."""
    columns: dict[str, printing.Justify] = dict.fromkeys(("class", "clients", "of all steps", "actors"), "right")
    columns |= dict.fromkeys(("CPUs each", "GPUs each", *(f"on {node.id[:16]}" for node in plan.nodes)), "right")
    rows = []
    for group, ((one, clients, work), share) in enumerate(zip(plan.classes, placement.shares, strict=True)):
        seats = [seat.node for seat in placement.seats if seat.group == group]
        where = [str(seats.count(node.id)) for node in plan.nodes]
        rows.append(
            [one, f"{clients:,}", f"{work:.0%}", str(len(seats)), f"{share.num_cpus:g}", f"{share.num_gpus:g}", *where]
        )
    columns["class"] = "left"
    printing.table(columns, rows)


def _per_gpu(num_gpus: float) -> str:
    """Actors on one GPU."""
    if num_gpus == 0:
        return "–"
    return str(int(1 / num_gpus + 1e-9)) if num_gpus <= 1 else f"1/{num_gpus:g}"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"

"""The parts of one run's report. Each returns nothing to show where the run did not record what it needs."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from raysim.config.parsing import as_yaml
from raysim.rounds.rows import FAULTS
from raysim.tracking.generated import GeneratedText
from raysim.tracking.headline import over_clients
from raysim.tracking.metric_names import parts_of
from raysim.tracking.report.attacks import attacks
from raysim.tracking.report.bars import PHASE_COLORS, client_sizes, dropped_over_rounds, time_over_rounds, times_sampled
from raysim.tracking.report.baselines import baselines
from raysim.tracking.report.by_class import class_pictures, class_table
from raysim.tracking.report.bytes_sent import bytes_sent
from raysim.tracking.report.confused import confused
from raysim.tracking.report.curves import client_curves, learning_curves, node_curves
from raysim.tracking.report.extremes import extreme_curves
from raysim.tracking.report.holdings import data
from raysim.tracking.report.markup import Content, Html, element, folded, join, key, section, swatch, table, tile, tiles
from raysim.tracking.report.privacy import privacy
from raysim.tracking.report.recorded import RecordedRun
from raysim.tracking.report.spread import sorted_clients
from raysim.tracking.report.style import Picture
from raysim.tracking.report.virtual import virtual_time
from raysim.tracking.units import duration, figure, quantity, rate, size

Place = Callable[[Iterable[Picture]], Html]
"""Draws pictures and returns the markup that shows them."""

SHOWN_REASONS = 10
SHOWN_CLASSES = 20
"""Rows of the table beside a picture of classes; a longer one is folded."""


def single_run(run: RecordedRun, place: Place) -> Html:
    """The whole page's content."""
    return join(
        [
            heading(run),
            numbers(run),
            learning(run, place),
            virtual_time(run, place),
            privacy(run, place),
            attacks([run], place),
            classes(run, place),
            confused(run, place),
            baselines(run),
            data(run, place),
            generated(run),
            time_spent(run, place),
            taking_part(run, place),
            bytes_sent(run),
            warnings(run),
            configuration(run),
            environment(run),
            reproduction(run),
        ]
    )


def heading(run: RecordedRun) -> Html:
    """The run's name, how far it came, and what it was in one line."""
    name = run.experiment.name if run.experiment else run.label
    status, kind = standing(run)
    keys = ("algorithm.name", "data.source.name", "model.name", "data.partition.name")
    words = [str(run.config[key]) for key in keys if run.config.get(key) is not None]
    line = join([element("span", status, kind=kind), " · ".join([*words, run.label])])
    return join([element("h1", name), element("p", line, kind="lead")])


def standing(run: RecordedRun) -> tuple[str, str]:
    """How far the run came, and the class of its badge."""
    planned = run.planned_rounds
    rounds = f"{run.rounds} of {planned} rounds" if planned is not None else f"{run.rounds} rounds"
    if not run.closed or run.reason is None:
        return f"unfinished: {rounds}", "status open"
    return f"{rounds}: {run.reason}", "status"


def numbers(run: RecordedRun) -> Html:
    """The headline numbers."""
    shown: list[Html] = []
    if run.headline is not None:
        best = run.best(run.headline)
        note = f"best {figure(best[1])} in round {best[0]}" if best else ""
        shown.append(tile(run.headline, figure(float(run.curve(run.headline).values[-1])), note))
        shown += _test_of_best(run, run.headline, best[0] if best else 0)
    each = f"{duration(run.time / run.rounds)} a round" if run.rounds else ""
    shown.append(tile("Rounds", quantity(run.rounds), each))
    shown.append(tile("Time in rounds", duration(run.time)))
    shown.append(tile("Clients a second", rate(run.clients_per_second), f"{quantity(run.total('trained'))} trained"))
    if tokens := run.total("tokens"):
        shown.append(tile("Tokens a second", rate(run.tokens_per_second), f"{quantity(tokens)} trained on"))
    parameters = run.environment.get("parameters")
    if isinstance(parameters, int):
        shown.append(tile("Model parameters", quantity(parameters), str(run.config.get("model.name", ""))))
    population = run.environment.get("population")
    if run.participation is not None:
        of = f"of {quantity(population)} clients" if isinstance(population, int) else ""
        shown.append(tile("Took part", quantity(len(run.participation.clients)), of))
    elif isinstance(population, int):
        shown.append(tile("Population", quantity(population), "clients"))
    up, down = run.total("wire_up"), run.total("wire_down")
    if up or down:
        shown.append(tile("Sent by the federation", size(up + down), f"{size(up)} up, {size(down)} down"))
    return tiles(shown)


def _test_of_best(run: RecordedRun, headline: str, round: int) -> list[Html]:
    """Where validation judges, the test metric, and its value in the round that validation would pick."""
    test = headline.replace("validation/", "test/", 1)
    curve = run.curve(test)
    if test == headline or not len(curve.values):
        return []
    picked = curve.values[curve.rounds == round]
    note = f"{figure(float(picked[0]))} in round {round}" if len(picked) else ""
    return [tile(test, figure(float(curve.values[-1])), note)]


def learning(run: RecordedRun, place: Place) -> Html:
    """Curves, and each metric's first, last and best value."""
    if not run.metrics:
        return section("Learning", element("p", "Nothing has been measured.", kind="faint"))
    rows: list[list[Content]] = []
    for name in run.metrics:
        curve, best = run.curve(name), run.best(name)
        ends = [figure(float(curve.values[0])), figure(float(curve.values[-1]))]
        rows.append([name, *ends, figure(best[1] if best else None), str(best[0]) if best else "–"])
    every = folded("All metrics in numbers", table(["metric", "first", "last", "best", "in round"], rows))
    outer = [extreme_curves(run.extremes)] if run.extremes is not None else []
    over_nodes = node_curves([run])
    shown = place([*learning_curves([run]), *client_curves([run]), *over_nodes, *sorted_clients([run]), *outer])
    return section("Learning", shown, *fairness([run]), every)


def classes(run: RecordedRun, place: Place) -> Html:
    """How each class is served."""
    numbers = class_table(run)
    if numbers is None:
        return Html("")
    drawn = class_pictures([run])
    if len(drawn) == 1 and numbers.text.count("<tr>") <= SHOWN_CLASSES:
        return section("Classes", element("div", join([place(drawn), numbers]), kind="side"))
    return section("Classes", place(drawn), folded("In numbers, at the last evaluation", numbers))


def generated(run: RecordedRun) -> Html:
    """What the first and the last model wrote behind each prompt, side by side; those between them folded."""
    if not run.generated:
        return Html("")
    ends = [run.generated[0], *run.generated[1:][-1:]]
    shown, between = _written(ends), run.generated[1:-1]
    more = [folded("In the rounds between", _written(between))] if between else []
    return section("Generated text", shown, *more)


def _written(texts: Sequence[GeneratedText]) -> Html:
    heads = ["before training" if one.round == 0 else f"after round {one.round}" for one in texts]
    rows: list[list[Content]] = [
        [element("span", written, kind="said") for written in (prompt, *(one.texts[number] for one in texts))]
        for number, prompt in enumerate(texts[0].prompts)
    ]
    return table(["prompt", *heads], rows, text_columns=len(texts) + 1)


def fairness(runs: Sequence[RecordedRun]) -> list[Html]:
    """How each thing that was measured on the clients' own samples was spread over them, at the last evaluation."""
    names = [name for run in runs for name in run.metrics if name.startswith("clients/")]
    names = [name for name in names if not parts_of(name).of_class]
    summaries = list(dict.fromkeys(name.rpartition("/")[2] for name in names))
    rows: list[list[Content]] = []
    for what in dict.fromkeys(over_clients(name) for name in names):
        for run in runs:
            curves = [run.curve(f"clients/{what}/{summary}").values for summary in summaries]
            cells = [figure(float(values[-1]) if len(values) else None) for values in curves]
            rows.append([what, *([run.label] if len(runs) > 1 else []), *cells])
    head = ["over clients", *(["run"] if len(runs) > 1 else []), *summaries]
    return [table(head, rows, text_columns=2 if len(runs) > 1 else 1)] if rows else []


def time_spent(run: RecordedRun, place: Place) -> Html:
    """Where the time went."""
    if not run.time > 0:
        return Html("")
    rows: list[list[Content]] = []
    for phase, seconds in run.seconds.items():
        if seconds.any():
            mark = join([swatch(PHASE_COLORS[phase]), phase])
            spent = float(seconds.sum())
            rows.append([mark, duration(spent), duration(float(seconds.mean())), f"{100 * spent / run.time:.1f} %"])
            rows += _parts(run, phase)
    shares = table(["phase", "in all", "a round", "share"], rows)
    remark = element("p", "Rounds overlap: phases add up to more than the clock.", kind="lead")
    side = element("div", join([place([time_over_rounds(run)]), shares]), kind="side")
    return section("Where the time went", *([remark] if run.overlaps else []), side)


def _parts(run: RecordedRun, phase: str) -> list[list[Content]]:
    """What a phase goes into, where that is known."""
    rows: list[list[Content]] = []
    for part, seconds in run.parts.items():
        whole, name = part.split("/")
        if whole == phase and seconds.any():
            spent = float(seconds.sum())
            share = f"{100 * spent / run.time:.1f} %"
            rows.append([f"– {name}", duration(spent), duration(float(seconds.mean())), share])
    return rows


def taking_part(run: RecordedRun, place: Place) -> Html:
    """Who was sampled, how much data they hold, and who was left out why."""
    who, dropped, clamped = run.participation, int(run.total("dropped")), int(run.total("clamped"))
    population = run.environment.get("population")
    parts: list[Content] = []
    if who is not None:
        known = population if isinstance(population, int) else None
        parts.append(place([times_sampled(who, known), client_sizes(who)]))
    if dropped:
        reasons = list(who.reasons.items())[:SHOWN_REASONS] if who is not None else []
        why = table(["dropped because", "times"], [[reason, quantity(count)] for reason, count in reasons])
        parts.append(element("div", join([place([dropped_over_rounds(run)]), why if reasons else ""]), kind="side"))
    if clamped:
        parts.append(element("p", f"{quantity(clamped)} aggregation weights were moved to the edge of their range."))
    lost, hung, again = (int(run.total(name)) for name in FAULTS)
    if lost or hung:
        text = f"{quantity(lost)} calls to actors were lost and {quantity(hung)} given up as hung; "
        parts.append(element("p", f"{text}{quantity(again)} pieces of work were given out again."))
    return section("Who took part", *parts)


_NOT_SHOWN = frozenset({"time", "level", "event", "traceback"})


def warnings(run: RecordedRun) -> Html:
    """What the log warns of."""
    if not run.warnings:
        return Html("")
    rows: list[list[Content]] = []
    for event in run.warnings:
        details = " · ".join(f"{k} {v}" for k, v in event.items() if k not in _NOT_SHOWN)
        rows.append([str(event.get("event", "")), details, str(event.get("time", ""))[:19].replace("T", " ")])
    title = f"Warnings ({quantity(run.warning_count)})"
    more = run.warning_count - len(run.warnings)
    note = [element("p", f"The last {len(rows)}; log.jsonl has {quantity(more)} more.", kind="faint")] if more else []
    return section(title, *note, table(["what", "where", "when"], rows, text_columns=3))


def configuration(run: RecordedRun) -> Html:
    """What was chosen, then every key."""
    chosen = [[key(name), element("code", written(run.config[name]))] for name in run.config if name in run.chosen]
    every: list[list[Content]] = [
        [key(name, kind="chosen" if name in run.chosen else None), element("code", written(value))]
        for name, value in run.config.items()
    ]
    parts: list[Content] = []
    if chosen:
        parts += [
            element("p", "Keys that differ from their defaults:", kind="faint"),
            table([], chosen, text_columns=2),
        ]
    elif run.experiment is not None:
        parts.append(element("p", "Every key has its default.", kind="faint"))
    return section("Configuration", *parts, folded("The whole configuration", table([], every, text_columns=2)))


def environment(run: RecordedRun) -> Html:
    """What the run ran on."""
    if not run.environment:
        return Html("")
    rows: list[list[Content]] = [[key, element("code", written(value))] for key, value in run.environment.items()]
    return section("Environment", folded("What it ran on", table([], rows, text_columns=2)))


def reproduction(run: RecordedRun) -> Html:
    """The commands that do it again."""
    parts = [element("pre", shlex.join(["raysim", "run", str(run.path / "config.yaml")]))]
    if run.rounds < (run.planned_rounds or 0):
        parts += [
            element("p", "To go on where it stopped:", kind="faint"),
            element("pre", shlex.join(["raysim", "resume", str(run.path)])),
        ]
    bits = "The model comes out the same, bit for bit, on any number of workers with the same torch build, processor "
    parts.append(element("p", bits + "capability, device type, engine and threads per client.", kind="faint"))
    return section("Do it again", *parts)


def written(value: Any) -> str:
    """A configuration value as one writes it in YAML, on one line."""
    return as_yaml(value, one_line=True)

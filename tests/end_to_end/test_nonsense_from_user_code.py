"""Components of a user's own that return what they should not: named with what was expected, before anything trains
where that can be known."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from failing_code import Failing

from raysim import Simulation
from raysim.errors import RaysimError

CASES = [
    ("def source(): return np.zeros(3)", r"mine\w+:source: expected a pair \(x, y\)"),
    ("def source(): return torch.zeros(9, 3, device='meta'), torch.arange(9) % 2", r"data\.source: mine\w+:source: "),
    ("def deal(labels): return [[0], [99999]]", "dealt sample 99999, but the training samples are 0 to 42"),
    ("def deal(labels): return 'text'", "returned str; expected a non-empty list"),
    ("def model(input_shape, classes): return [nn.Linear(3, 2)]", "returned a list, not an nn.Module"),
    ("def model(input_shape, classes): return nn.Linear(3, 2, device='meta')", "'weight' is on the meta device"),
    ("Net.__deepcopy__ = lambda self, memo: 1 / 0", r"cannot be copied \(ZeroDivisionError"),
    ("def loss(output, target): return output.sum().view(1, 1)", r"returned shape \[1, 1\]; return one loss a sample"),
    ("Hits.value = lambda self, sums: '0.5'", "TypeError: returned a str; it must return a number"),
    ("Hits.value = lambda self, sums: 0.5 if not sums[1] else 'text'", "metric hits: value: TypeError: returned a str"),
    ("Hits.measure = lambda self, output, target, losses: output", r"measured \[2, 2\] for targets \[2\]"),
    ("Hits.name = 'a\\n'", r"has the name 'a\\n'; expected printable text"),
    ("Hits.width = 0", "has width 0 and higher_is_better True; expected a whole number"),
    ("Rule.fields = lambda self: ('update',)", r"fields returned a tuple of 1 \(str\); expected a non-empty tuple"),
    ("Rule.init = lambda self, model: {'a': np.zeros((2, 2))}", r"init returned an array of shape \[2, 2\]"),
    ("Rule.first_model = lambda self, model: model[:1]", r"expected a NumPy vector of 32 float32"),
    ("Rule.apply = lambda self, *given: (1.0, {})", "round 1: algorithm .*: apply returned a float as the model"),
    ("Rule.client_state = lambda self: (ClientVector('own', 3, 'often'),)", "'own' with initial 'often'"),
    ("Rule.work = lambda self, client: 3", "work returned a int; expected a raysim.training.LocalWork"),
    ("Rule.fine_tune = property(lambda self: 3)", "fine_tune returned a int"),
    ("Rule.send = lambda self, c: {'update': 3}", r"client \d, round 1: TypeError: the algorithm's send"),
    (
        "Rule.send = lambda self, c: c.losses([torch.zeros(1)])",
        r"client \d, round 1: ValueError: losses was given shape",
    ),
    ("Rule.send = lambda self, c: c.new_rows('a')", r"client \d, round 1: ValueError: new_rows makes matrix 'a', and"),
    (
        "Rule.local = lambda self, c: [c.rows for b in c.batches()]",
        r"client \d, round 1: RuntimeError: within a pass: take b\.rows",
    ),
    ("Rule.correct = 3", "correct is 3; expected a method of"),
    ("Rule.broadcast_state = ('nothing',)", "broadcast_state names 'nothing', of which init makes no vector"),
    ("Rule.recorded = ('nothing',)", "recorded names 'nothing', of which init makes no vector of one value"),
    ("Rule.matrices = -1", "matrices is -1; expected a whole number"),
    ("Rule.personal = True", "personal is set, but the method client_model is not there"),
    ("Chosen.first = lambda self: {'a': 3}", r"selection .*: first returned a int as 'a'; expected a NumPy array"),
    ("Chosen.first = lambda self: [3]", r"first returned a list of 1 \(int\); expected a mapping of names to NumPy"),
    (
        "Chosen.cohort = lambda *given: [1, 2]",
        r"round 1: selection .*: cohort returned a list of 2 .*; expected",
    ),
    ("Chosen.cohort = lambda *given: np.array([np.nan])", r"an array of shape \[1\] and type float64; expected client"),
    ("Chosen.cohort = lambda *given: np.array([0, 9])", "cohort returned client 9; clients are 0 to 3"),
    ("Chosen.cohort = lambda *given: np.array([-1, 2])", "cohort returned client -1; clients are 0 to 3"),
    ("Chosen.cohort = lambda *given: np.array([0, 2, 2])", "cohort returned client 2 twice; name each client once"),
    ("Chosen.cohort = lambda *given: np.array([2, 0])", "cohort returned ids that are not ascending; return np.sort"),
    ("Chosen.cohort = lambda self, n, state, measure: measure([3])", "measure was given a list of 1 .*; expected what"),
    ("Chosen.cohort = lambda self, n, s, measure: s['seen'].fill(1)", "cohort: ValueError: assignment destination is"),
    (
        "Chosen.ranges = lambda self, clients: clients",
        "ranges returned an array of shape .*; expected what self.train_",
    ),
    (
        "Chosen.after = lambda self, *given: None",
        r"round 1: selection .*: after returned a NoneType; expected a mapping",
    ),
    ("Chosen.after = lambda self, *given: {}", r"after returned a state of nothing; expected that of first: seen \(f"),
    ("Chosen.adaptive = 'yes'", "selection .*: adaptive is 'yes'; expected True or False"),
    ("Chosen.adaptive = False", "first returned a state; only an adaptive selection knows of the rounds before; set"),
    ("Chosen = Rule", "selection.name: mine.*:Chosen is not a subclass of raysim.selection.Selection"),
    ("choose = 3", r"aggregation\.weights\.chooser: mine\w+:choose is a int, not a function"),
    ("def choose(default): pass", "cannot be called as a chooser"),
    ("def choose(*given, **named): return [0.25] * 4", "returned a list; expected a NumPy array of 4 finite weights"),
    ("def choose(*given, **named): return np.full(4, np.nan)", "returned a weight that is not finite"),
    ("def choose(*given, **named): return np.ones(3)", r"returned shape \[3\]"),
]


@pytest.mark.parametrize(("patch", "line"), CASES)
def test_what_a_component_returns_is_named_with_what_was_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patch: str, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    place = "chooser" if "choose" in patch else "selection" if "Chosen" in patch else "nowhere"
    failing = Failing(tmp_path, place, f"none{CASES.index((patch, line))}")
    failing.write(f"{patch}\n")
    with pytest.raises(RaysimError) as caught, Simulation(failing.experiment()) as simulation:
        simulation.run()
    assert re.search(line, str(caught.value)), str(caught.value)
    assert str(caught.value).isprintable()

"""What torch promises nothing about: used in named places only, and where it is gone, the next simpler way is taken."""

from __future__ import annotations

import ast
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
import torch
from older_torch import lacking
from reference_loops import IMAGES, block_of, images, module
from test_awkward_modules import WORK
from torch import Tensor, nn
from torch.fx import GraphModule

import raysim
from raysim.training import (
    CannotCapture,
    EngineChoice,
    ParameterLayout,
    SequentialEngine,
    build_engine,
    tracing,
    unguarded,
)
from raysim.training import sequential as engine_module
from raysim.training.foreach import add_one_by_one, copy_one_by_one
from raysim.training.losses import cross_entropy

KNOWN = {
    ("training/capture.py", "torch._ops"),
    ("training/capture.py", "torch.utils._pytree"),
    ("training/straight.py", "torch._ops"),
    ("training/straight.py", "torch.utils._python_dispatch"),
    ("training/tracing.py", "torch._decomp"),
    ("training/tracing.py", "torch._guards"),
    ("training/tracing.py", "torch._subclasses.fake_tensor"),
    ("training/tracing.py", "torch.fx.experimental.proxy_tensor"),
    ("training/unguarded.py", "torch._dynamo"),
    ("training/unguarded.py", "torch._inductor.compile_fx"),
}
"""Files, and what they use of torch's internals. Whoever adds one tests here that a torch without it still trains."""


def private(name: str) -> bool:
    hidden = any(part.startswith("_") and not part.startswith("__") for part in name.split("."))
    return name.startswith("torch.") and (hidden or ".experimental" in name)


def dotted(node: ast.expr) -> str:
    """`a.b.c` of an attribute."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def internals(tree: ast.AST) -> set[str]:
    """The private modules of torch that a piece of code names, without its annotations."""
    found: set[str] = set()
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Attribute):
            names = [dotted(node)]
        found |= {name for name in names if private(name)}
    return {name for name in found if not any(name.startswith(f"{other}.") for other in found)}


def without_annotations(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
            for argument in [*node.args.args, *node.args.kwonlyargs]:
                argument.annotation = None
    return tree


def test_torchs_internals_are_used_in_known_places_and_none_is_needed_to_import_raysim() -> None:
    root, used, at_import = Path(raysim.__file__).parent, set(), set()
    for file in root.rglob("*.py"):
        tree = without_annotations(ast.parse(file.read_text(encoding="utf-8")))
        used |= {(file.relative_to(root).as_posix(), name) for name in internals(tree)}
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                at_import |= internals(node)
    assert used == KNOWN
    assert at_import == set()


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("torch._decomp", "get_decompositions"),
        ("torch.fx.experimental.proxy_tensor", "make_fx"),
        ("torch.utils._pytree", "tree_flatten"),
        ("torch._ops", "OpOverload"),
    ],
)
def test_a_torch_without_what_capturing_takes_has_no_rows_and_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, place: str, name: str
) -> None:
    lacking(monkeypatch, place, name)
    net = module("mlp")
    with pytest.raises(CannotCapture, match=name):
        build_engine(EngineChoice("rows", 3), net, ParameterLayout(net), cross_entropy, IMAGES, WORK)


def test_a_torch_without_what_makes_tracing_fast_traces_the_same_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(x: Tensor) -> tuple[Tensor, ...]:
        return (nn.functional.glu(x.exp() @ x.T) + 1,)

    def shapes(module: GraphModule) -> list[Any]:
        nodes = module.graph.nodes
        return [module.code, *(node.meta["tensor_meta"].shape for node in nodes if node.op == "call_function")]

    known = shapes(tracing.traced(twice, [torch.ones(4, 3)]))
    assert len(known) > 5
    monkeypatch.setattr(tracing, "_one_fake_mode", nullcontext)
    assert shapes(tracing.traced(twice, [torch.ones(4, 3)])) == known
    monkeypatch.undo()
    monkeypatch.delattr(import_module("torch._guards"), "TracingContext")
    assert isinstance(tracing._one_fake_mode(), nullcontext)


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("torch._dynamo", "mark_dynamic"),
        ("torch._inductor.compile_fx", "compile_fx"),
        ("torch._inductor.compile_fx", "compile_fx_inner"),
    ],
)
def test_a_torch_without_what_compiling_takes_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, place: str, name: str
) -> None:
    lacking(monkeypatch, place, name)
    net = module("mlp")
    with pytest.raises(CannotCapture, match=name):
        build_engine(EngineChoice("rows", 3, compiled=True), net, ParameterLayout(net), cross_entropy, IMAGES, WORK)


def step(rows: Tensor) -> None:
    rows.add_(1)


def test_a_torch_without_some_settings_compiles_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    functorch = pytest.importorskip("torch._functorch.config")

    def no_module(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(unguarded, "import_module", no_module)
    assert isinstance(step, FunctionType)
    rows = torch.zeros(5, 3)
    with functorch.patch(enable_autograd_cache=False):  # what an earlier run compiled would come back as it is
        found = unguarded.compiled(step, [torch.zeros(4, 3)], [torch.zeros(3, 3)])
    found.call(rows)
    assert torch.equal(rows, torch.ones(5, 3))
    assert not found.checked


class OtherCode:
    """Stands in for what another torch compiles: it has its code under this name, and may call it as it likes."""

    def __init__(self, calls: int = 1, more: object = 1.0, adds: float = 1.0) -> None:
        self.calls, self.more, self.adds, self.guards = calls, more, adds, 0

    def current_callable(self, arguments: list[Any]) -> None:
        arguments[0].add_(1)

    def guarded(self, rows: Tensor) -> None:
        self.guards += 1
        for _ in range(self.calls):
            self.current_callable([rows] if self.more is None else [rows, self.more])
        rows.add_(self.adds - 1)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (object(), "keeps its compiled code under another name"),
        (OtherCode(calls=2), "ran its compiled code 4 times in two calls"),
        (OtherCode(more="a stream"), "passes its compiled code something beside the arguments"),
        (OtherCode(more=None, adds=3.0), "computes something else"),
    ],
)
def test_code_that_cannot_be_called_by_itself_says_why(code: Any, why: str) -> None:
    guarded = code.guarded if isinstance(code, OtherCode) else step
    with pytest.raises(unguarded.MustCheck, match=why):
        unguarded._called_alone(guarded, code, [torch.zeros(4, 3)], [torch.zeros(3, 3)])


def test_code_that_has_no_calls_but_torchs_own_still_computes_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def must_check(*arguments: object) -> None:
        raise unguarded.MustCheck("a stand-in")

    monkeypatch.setattr(unguarded, "_called_alone", must_check)
    assert isinstance(step, FunctionType)
    found, rows = unguarded.compiled(step, [torch.zeros(4, 3)], [torch.zeros(3, 3)]), torch.zeros(5, 3)
    found.call(rows)
    assert torch.equal(rows, torch.ones(5, 3))
    assert found.checked == "a stand-in"


def test_parameters_are_written_one_by_one_where_torch_cannot_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def stepped() -> Tensor:
        net = module("mlp")
        engine = SequentialEngine(net, ParameterLayout(net), cross_entropy, IMAGES, torch.device("cpu"))
        engine.rows[0] = ParameterLayout(net).pack(module("mlp"))
        engine.load(block_of([images(6)], [[torch.arange(6)] * 2]))
        engine.gradients(0, 1)
        engine.descend(1, 1, 0.1)
        return torch.cat([engine.rows, engine.grad], dim=1)

    at_once = stepped()
    monkeypatch.setattr(engine_module, "copy_each", copy_one_by_one)
    monkeypatch.setattr(engine_module, "add_each", add_one_by_one)
    assert torch.equal(stepped(), at_once)

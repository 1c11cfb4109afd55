"""Text that models write: as plain loops write it, the same wherever it is written, in the run and in the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from corpora import CHAT, byte_tokenizer, write_lines

from raysim import Experiment, Simulation
from raysim.config.text import CorpusConfig
from raysim.data import DataInfo, TextCodec
from raysim.errors import ConfigError, RunError
from raysim.models.calling import Calling
from raysim.models.recurrent import CharacterLstm
from raysim.tracking import RunDirectory, read_generated, read_rounds, write_report
from raysim.training import continued

CPU = torch.device("cpu")
TEXTS = ["the cat <b>sat</b>", "on the mat", "the dog ate", "a hat & a cat"]


def experiment(folder: Path, **keys: Any) -> Experiment:
    write_lines(folder / "a.jsonl", [{"text": text, "client": str(i)} for i, text in enumerate(TEXTS)])
    values = {
        "name": "written",
        "rounds": 4,
        "cohort": 2,
        "data": {
            "source": {"name": "corpus", "path": str(folder / "a.jsonl"), "length": 8},
            "partition": "natural",
            "test": 0,
        },
        "model": {"name": "lstm_char", "hidden": 8},
        "client": {"steps": 2, "optimizer": {"name": "adam", "lr": 0.05}},
        "training": {"engine": "sequential"},
        "evaluation": {"generate": {"prompts": ["the <", "a"], "tokens": 12, "every": 2}},
        "execution": {"executor": "inprocess"},
        "tracking": {"directory": str(folder / "runs"), "checkpoint_every": 1, "report": False},
    }
    return Experiment.parse({**values, **keys})


def tokens(run: Path) -> list[int]:
    found: list[int] = read_rounds(RunDirectory(run))["tokens"].to_pylist()
    return found


def texts(run: Path) -> dict[int, tuple[str, ...]]:
    return {one.round: one.texts for one in read_generated(RunDirectory(run))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder of a corpus, and a run on it."""
    folder = tmp_path_factory.mktemp("written")
    with Simulation(experiment(folder)) as simulation:
        simulation.run()
        assert simulation.generated == read_generated(RunDirectory(simulation.directory))
    return folder, simulation.directory


def test_the_first_and_the_last_model_write_and_those_between_where_asked_for(whole: tuple[Path, Path]) -> None:
    found = texts(whole[1])
    assert list(found) == [0, 2, 4]
    assert len({found[number] for number in found}) == 3
    assert all(0 < len(text) <= 12 for text in found[4])
    known = set("".join(TEXTS))
    assert all(set(text) <= known for written in found.values() for text in written)


def test_tokens_are_those_of_the_batches(whole: tuple[Path, Path], tmp_path: Path) -> None:
    folder, run = whole
    sizes = [-(-len(text) // 8) for text in TEXTS]  # samples of 8, of each with the token that ends it but the first
    steps = experiment(folder, client={"steps": 5, "batch_size": 2}, evaluation={"every": 0}, cohort=4, rounds=1)
    epochs = experiment(folder, client={"epochs": 3, "batch_size": 2}, evaluation={"every": 0}, cohort=4, rounds=1)
    found = []
    for one in (steps, epochs):
        with Simulation(one) as simulation:
            simulation.run()
        found += tokens(simulation.directory)
    by_step = [[min(2, size - start) for start in range(0, size, 2)] * 5 for size in sizes]
    assert found == [8 * sum(sum(each[:5]) for each in by_step), 8 * 3 * sum(sizes)]
    shown = write_report([simulation.directory], tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Tokens a second" in shown
    assert min(tokens(run)) > 0


def test_a_resumed_run_writes_the_same_and_forgets_what_it_does_again(whole: tuple[Path, Path]) -> None:
    folder, run = whole
    with Simulation(experiment(folder, rounds=3)) as simulation:
        simulation.run()
    assert list(texts(simulation.directory)) == [0, 2, 3]
    for late in sorted((simulation.directory / "checkpoints").iterdir())[-1:]:
        for file in late.iterdir():
            file.unlink()
        late.rmdir()  # as if the run had been killed before its third round was saved
    with Simulation.resume(simulation.directory, overrides=["rounds=4"]) as resumed:
        assert list(texts(simulation.directory)) == [0, 2]
        resumed.run()
    assert texts(simulation.directory) == texts(run)


def test_a_run_that_a_rule_stops_has_its_last_models_text(whole: tuple[Path, Path]) -> None:
    values = {"metric": "train/loss", "target": 100.0}
    with Simulation(experiment(whole[0], stop=values)) as simulation:
        assert simulation.run().rounds == 1
    found = texts(simulation.directory)
    assert list(found) == [0, 1]
    assert found[0] == texts(whole[1])[0]


def test_the_report_shows_them_side_by_side_and_nothing_of_them_is_markup(
    whole: tuple[Path, Path], tmp_path: Path
) -> None:
    run = whole[1]
    shown = write_report([run], tmp_path / "report.html").read_text(encoding="utf-8")
    section = shown.partition("Generated text")[2].partition("</section>")[0]
    assert "the &lt;" in section
    assert "the <" not in section
    assert section.index("before training") < section.index("after round 4") < section.index("after round 2")


@pytest.mark.ray
def test_actors_write_the_same(whole: tuple[Path, Path], ray_session: Any) -> None:
    folder, run = whole
    with Simulation(experiment(folder, execution={"executor": "ray", "actors": 2})) as simulation:
        simulation.run()
    assert texts(simulation.directory) == texts(run)
    assert tokens(simulation.directory) == tokens(run)


@pytest.mark.parametrize("inputs", [(), ("attention_mask",), ("segments", "position_ids")])
def test_greedy_text_is_that_of_the_library(inputs: tuple[str, ...], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from corpora import load

    path = write_lines(tmp_path / "a.jsonl", [{"text": text} for text in TEXTS])
    info = load(tmp_path, path=str(path), tokenizer="bytes", length=16, inputs=list(inputs)).info
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=256, n_positions=16, n_embd=16, n_layer=2, n_head=2, initializer_range=0.5, eos_token_id=None
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    prompt = list(b"the c")
    expected = model.generate(torch.tensor([prompt]), max_new_tokens=8, do_sample=False, pad_token_id=0)
    read: list[int] = []
    model.transformer.wte.register_forward_hook(lambda module, args, output: read.append(args[0].numel()))
    Calling.of(model, info).attach(model)
    found = continued(model, info, prompt, np.zeros(8), 0, None, CPU)
    assert [*prompt, *found] == expected[0].tolist()
    assert len(set(found)) > 2
    assert read == ([5, *[1] * 7] if not inputs else [16] * 8)  # keys and values of what was read are kept


def test_a_text_beyond_the_length_of_a_sample_goes_on_from_its_last_tokens() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=20, n_positions=6, n_embd=16, n_layer=1, n_head=2, initializer_range=0.5, eos_token_id=None
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    ids = [3, 1]
    for _ in range(9):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids[-6:]])).logits[0, -1].argmax()))
    info = DataInfo("classification", (6,), "tokens", (6,), 20, 20)
    Calling.of(model, info).attach(model)
    assert continued(model, info, [3, 1], np.zeros(9), 0, None, CPU) == tuple(ids[2:])


def test_drawn_text_is_that_of_a_plain_loop_also_beyond_the_length_of_a_sample() -> None:
    torch.manual_seed(0)
    model = CharacterLstm(7, 7, embedding=4, hidden=8, layers=1, last_only=False).eval()
    info = DataInfo("classification", (5,), "tokens", (5,), 7, 7)
    draws = np.random.default_rng(2).random(40)
    ids = [3, 1]
    for draw in draws:
        with torch.no_grad():
            logits = model(torch.tensor([ids[-5:]]))[0, -1].double().numpy() / 0.3
        share = np.exp(logits) / np.exp(logits).sum()
        drawn = next(i for i in range(7) if share[: i + 1].sum() > draw)
        if drawn == 6:
            break
        ids.append(drawn)
    assert continued(model, info, [3, 1], draws, 0.3, 6, CPU) == tuple(ids[2:])
    assert len(ids) > 8


def test_a_model_that_has_diverged_writes_nothing() -> None:
    model = CharacterLstm(7, 7, embedding=4, hidden=8, layers=1, last_only=False)
    torch.nn.init.constant_(model.output.weight, float("nan"))
    info = DataInfo("classification", (5,), "tokens", (5,), 7, 7)
    assert continued(model, info, [3], np.full(4, 0.5), 1.0, None, CPU) == ()


def test_a_prompt_is_asked_as_the_corpus_asks(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer(), eos_token="</s>", bos_token="<s>")
    fast.chat_template = CHAT
    fast.save_pretrained(tmp_path / "tokenizer")
    options = {"path": "a.jsonl", "tokenizer": str(tmp_path / "tokenizer")}

    def asked(**more: Any) -> str:
        codec = TextCodec.of(CorpusConfig(**options, **more), tmp_path)
        return fast.decode(codec.prompt("why?"))

    assert asked() == "<s>why?"
    assert asked(prompt="a", response="b") == "<s>user: why?</s><s>assistant: "
    assert asked(messages="a") == "<s>user: why?</s><s>assistant: "
    assert asked(prompt="a", response="b", template="Q {prompt} A {response}.") == "<s>Q why? A "
    codec = TextCodec.of(CorpusConfig(**options), tmp_path)
    before, behind = codec.prompt("the cat"), fast("sat on", add_special_tokens=False)["input_ids"]
    assert codec.text(before, behind) == "sat on"


BAD = {
    "evaluation.generate: needs data.source corpus with task causal_lm": {"data": {"source": "digits"}},
    r"evaluation.generate.prompts\[1\]: the character 'Z' does not occur": ["a", "Zebra"],
    r"evaluation.generate.prompts\[0\]: has 12 tokens; data.source.length allows 1 to 8": ["the cat sat "],
    "evaluation.generate.prompts": [],
}


@pytest.mark.parametrize("said", BAD)
def test_what_cannot_be_written_is_one_line(said: str, tmp_path: Path) -> None:
    keys = BAD[said] if isinstance(BAD[said], dict) else {"evaluation": {"generate": {"prompts": BAD[said]}}}
    with pytest.raises(ConfigError, match=said) as error:
        Simulation(experiment(tmp_path, **keys))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("content", ["{", '{"prompts": ["a"], "rounds": [{"round": 1, "texts": []}]}', "[]"])
def test_a_damaged_file_is_named(content: str, whole: tuple[Path, Path], tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.generated.write_text(content)
    with pytest.raises(RunError, match=r"generated\.json: damaged"):
        read_generated(run)
    assert json.loads((whole[1] / "generated.json").read_text())["prompts"] == ["the <", "a"]

"""A corpus in the cache and in the shard store: streamed, found again, told of; texts of roles and mailing lists."""

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import arrays, byte_tokenizer, load, save_tokenizer, write_lines

from raysim import Experiment, Simulation
from raysim.config.data import DataConfig
from raysim.config.text import CorpusConfig
from raysim.data.build import prepare
from raysim.data.sources.corpus import corpus_identity, encoding, token_files
from raysim.data.sources.corpus.documents import documents
from raysim.data.sources.corpus.token_files import open_tokens, write_tokens
from raysim.data.sources.corpus.tokenizers import ByteTokenizer, load_tokenizer
from raysim.data.store import ArrowFederation
from raysim.errors import DataError

SHARED = Path(os.environ.get("RAYSIM_DATA", "/nowhere"))


def built(cache: Path, source: dict[str, Any], **options: Any) -> ArrowFederation:
    config = DataConfig(source={"name": "corpus", **source}, cache=str(cache), **options)
    federation = prepare(config, 0).open()
    assert isinstance(federation, ArrowFederation)
    return federation


def test_tokens_of_a_corpus_beyond_the_memory_go_to_a_file_document_by_document(tmp_path) -> None:
    bound = 24 << 20
    one = "the quick brown fox jumps over the lazy dog " * 100

    def generated():
        for number in range(4_000):
            yield f"row {number}", {"text": one, "who": str(number % 7)}

    config = CorpusConfig(path="made", client="who", tokenizer="bytes")
    tracemalloc.start()
    write_tokens(tmp_path, documents(config, generated()), ByteTokenizer(), config)
    files = open_tokens(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert files.tokens.nbytes == 4 * 4_000 * (len(one) + 1) > 2 * bound
    assert peak < bound
    assert files.owners == tuple("0123456")
    np.testing.assert_array_equal(files.owner, np.repeat(np.arange(7), [572, 572, 572, 571, 571, 571, 571]))
    text = bytes(files.tokens[-len(one) - 1 : -1].tolist()).decode()
    assert text == one


def test_samples_of_a_corpus_are_made_a_record_batch_at_a_time(tmp_path, monkeypatch) -> None:
    one = "the quick brown fox jumps over the lazy dog " * 100
    rows = [{"text": one, "client": str(number % 50)} for number in range(700)]
    path = write_lines(tmp_path / "a.jsonl", rows)
    source = {"path": str(path), "tokenizer": "bytes", "inputs": ["segments", "position_ids"]}
    built(tmp_path / "cache", source | {"length": 4000}, partition="natural")  # what is imported for it
    monkeypatch.setattr("raysim.data.store.writer.BATCH_BYTES", 1 << 19)
    tracemalloc.start()
    federation = built(tmp_path / "cache", source, partition="natural", test=0.01, label_histograms=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    size = (federation.path / "train.arrow").stat().st_size
    assert size > 48 << 20
    assert peak < 12 << 20
    assert federation.population == 50
    x, _, weight = arrays(load(tmp_path / "cache", **source))
    assert weight is not None
    assert federation.sizes().sum() + len(federation.server("test") or ()) == len(x)


def test_pieces_of_any_size_are_put_in_the_order_of_their_owners(tmp_path, monkeypatch) -> None:
    rows = [{"text": chr(97 + number) * (number * 7 % 13 + 1), "client": str(number % 3)} for number in range(20)]
    path = write_lines(tmp_path / "a.jsonl", rows)
    found = []
    for size in (1, 5, 1 << 20):
        monkeypatch.setattr(token_files, "_PIECE", size)
        monkeypatch.setattr(encoding, "_BATCH_CHARACTERS", size)
        data = load(tmp_path / f"cache-{size}", path=str(path), length=5)
        x, y, _ = arrays(data)
        found.append((x.tolist(), y.tolist()))
    assert found[0] == found[1] == found[2]
    expected = "".join(row["text"] + "\0" for owner in "012" for row in rows if row["client"] == owner)
    (file,) = (tmp_path / "cache-5").glob("tokens/*/tokens.i32")
    letters = ["\0", *sorted(set(expected) - {"\0"})]
    assert "".join(letters[i] for i in np.fromfile(file, np.int32)) == expected


def test_a_corpus_is_tokenised_once_and_anew_when_something_changes(tmp_path, monkeypatch) -> None:
    path, cache = (
        write_lines(tmp_path / "a.jsonl", [{"text": "abc", "body": "xyz"}, {"text": "d", "body": "w"}]),
        tmp_path,
    )
    source = {"path": str(path), "length": 2}

    def made() -> int:
        return len(list(cache.glob("tokens/*")))

    load(cache, **source)
    first = corpus_identity(CorpusConfig(**source))
    path.touch()  # the same content: other shards, the same tokens
    assert corpus_identity(CorpusConfig(**source)) != first
    monkeypatch.setattr("raysim.data.sources.corpus.load.write_tokens", None)
    load(cache, **source)
    load(cache, **(source | {"length": 3, "min_characters": 1, "inputs": ["segments"]}))
    monkeypatch.undo()
    assert made() == 1
    for change in ({"text": "body"}, {"tokenizer": "bytes"}, {"client": "file"}):
        before = made()
        load(cache, **(source | change))
        assert made() == before + 1
    path.write_text(path.read_text() + '{"text": "e", "body": "v"}\n')
    assert len(load(cache, **source).train) == 4
    assert made() == 5


def test_a_tokenizer_is_known_by_its_files(tmp_path) -> None:
    pytest.importorskip("transformers")
    folder = save_tokenizer(tmp_path / "tokenizer")
    (folder / "model.safetensors").write_bytes(b"weights")
    first = corpus_identity(CorpusConfig(tokenizer=str(folder)))
    (folder / "model.safetensors").write_bytes(b"others")
    assert corpus_identity(CorpusConfig(tokenizer=str(folder))) == first
    assert corpus_identity(CorpusConfig(tokenizer=str(folder), end_of_text="<s>")) != first
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    assert corpus_identity(CorpusConfig(tokenizer=str(folder))) != first
    byte_tokenizer().save(str(tmp_path / "tokenizer.json"))
    of_a_file, of_a_folder = (
        load_tokenizer(CorpusConfig(tokenizer=str(place))) for place in (tmp_path / "tokenizer.json", folder)
    )
    assert of_a_file.encode(["the cat"])[0].tolist() == of_a_folder.encode(["the cat"])[0].tolist()
    assert (of_a_file.vocabulary, of_a_file.end) == (of_a_folder.vocabulary, of_a_folder.end)
    assert of_a_file.prefix.tolist() == of_a_folder.prefix.tolist() == [0]


def test_a_damaged_token_file_is_named(tmp_path) -> None:
    load(tmp_path, length=64)
    (file,) = tmp_path.glob("tokens/*/tokens.i32")
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(DataError, match=r"tokens.i32: truncated; delete the folder .*, it is built again when needed"):
        load(tmp_path, length=64)
    (file.parent / "names.json").write_text("{")
    with pytest.raises(DataError, match=r"damaged \(.*\); delete the folder"):
        load(tmp_path, length=64)


def test_the_store_says_what_the_corpus_has(tmp_path) -> None:
    rows = [{"text": "abcdef", "client": "a"}, {"text": "ab", "client": "b"}]
    path = write_lines(tmp_path / "a.jsonl", rows)
    source = {"path": str(path), "packing": False, "length": 3, "tokenizer": "bytes"}
    federation = built(tmp_path, source, partition="natural", test=0)
    expected = {"documents": 2, "tokens": 10, "token ids": 256, "owners": 2, "truncated tokens": 3}
    assert federation.counts() == expected
    assert json.loads((federation.path / "manifest.json").read_text())["counts"] == expected
    assert [str(one) for one in federation.left_out()] == [
        "data.source.length: 3 of 10 source tokens left out: 1 of 2 documents are longer than 4 tokens"
    ]


def test_a_language_model_learns_from_a_corpus_and_tells_its_perplexity(tmp_path) -> None:
    rows = [{"text": "abcabcabcabcabcabc", "client": str(number)} for number in range(6)]
    path = write_lines(tmp_path / "a.jsonl", rows)
    experiment = Experiment(
        name="corpus",
        rounds=6,
        cohort=1.0,
        data={
            "source": {"name": "corpus", "path": str(path), "length": 6},
            "partition": "natural",
            "test": 0.3,
            "holdout": 0.3,
            "cache": str(tmp_path / "cache"),
        },
        model={"name": "lstm_char", "hidden": 8, "layers": 1},
        client={"optimizer": {"lr": 1.0}, "batch_size": 2, "epochs": 4},
        evaluation={"metrics": ["perplexity", "accuracy"]},
        execution={"executor": "inprocess"},
        tracking={"directory": str(tmp_path / "runs")},
    )
    found = Simulation(experiment).run().metrics
    assert found["test/perplexity"] == pytest.approx(np.exp(found["test/loss"]), rel=1e-9)
    assert 1 < found["test/perplexity"] < 3
    assert found["clients/perplexity/mean"] > 1
    assert found["clients/perplexity/worst10"] >= found["clients/perplexity/best10"]  # small is good


@pytest.mark.skipif(not (SHARED / "shakespeare_roles.json.gz").exists(), reason="needs RAYSIM_DATA")
def test_every_role_with_a_thousand_characters_is_a_client(tmp_path) -> None:
    path = SHARED / "shakespeare_roles.json.gz"
    source = {"path": str(path), "min_characters": 1000, "length": 80}
    federation = built(tmp_path, source, partition="natural", test=0.1)
    texts = {role: text for role, text in json.loads(gzip.decompress(path.read_bytes())).items() if len(text) >= 1000}
    assert federation.population == len(texts) == 628
    assert {federation.owner(client) for client in range(628)} == set(texts)
    assert federation.info.vocabulary == 84
    assert federation.counts()["tokens"] == sum(len(text) + 1 for text in texts.values())
    test = federation.server("test")
    assert test is not None
    parts = [test, *(federation.shard(client) for client in range(628))]
    learned = sum(int(part.weight.sum()) for part in parts if part.weight is not None)
    assert learned == sum(len(text) for text in texts.values())  # every token but the first of each role


@pytest.mark.skipif(not (SHARED / "spamassassin.jsonl.gz").exists(), reason="needs RAYSIM_DATA")
def test_mails_are_classified_by_mailing_list_or_with_shares_of_spam(tmp_path) -> None:
    source = {
        "path": str(SHARED / "spamassassin.jsonl.gz"),
        "task": "classification",
        "label": "label",
        "tokenizer": "bytes",
        "length": 64,
    }
    lists = built(tmp_path, source | {"client": "list", "min_characters": 1000}, partition="natural")
    assert lists.info.input_kind == "record"
    assert lists.info.class_names == ("0", "1")
    assert 100 < lists.population < 473
    skewed = built(tmp_path, source, partition={"name": "label_shares", "shares": [0.1, 0.3, 0.7, 0.9]})
    counts = skewed.histograms()
    assert counts is not None
    sizes = counts.sum(axis=1)
    assert len(set(sizes.tolist())) == 1
    np.testing.assert_allclose(counts[:, 1] / sizes, [0.1, 0.3, 0.7, 0.9], atol=0.5 / sizes[0])

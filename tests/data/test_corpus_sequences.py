"""Samples of a corpus against plain loops over its documents: packing, segments, prompts, truncation."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from corpora import CHAT, arrays, byte_tokenizer, load, save_tokenizer, write_lines
from hypothesis import given, settings
from hypothesis import strategies as st

from raysim.config.data import DataConfig
from raysim.data.build import prepare
from raysim.data.inputs import unpack_inputs
from raysim.data.sources.corpus.sequences import Sequences, packed, single
from raysim.data.sources.corpus.token_files import TokenFiles
from raysim.errors import DataError

LENGTH = st.integers(2, 9)
END = 99


@dataclass
class Text:
    ids: list[int]
    prompt: int
    owner: int


TEXTS = st.lists(
    st.builds(
        lambda size, prompt, owner: Text([*range(1, size + 1), END], min(prompt, size), owner),
        st.integers(1, 12),
        st.integers(0, 6),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=8,
).map(lambda texts: sorted(texts, key=lambda text: text.owner))


def files_of(texts: list[Text]) -> TokenFiles:
    def column(values):
        return np.array(values, dtype=np.int64)

    return TokenFiles(
        tokens=np.array([i for text in texts for i in text.ids], dtype=np.int32),
        length=column([len(text.ids) for text in texts]),
        turns=column([2] * len(texts)),
        lengths_of_turns=column([n for text in texts for n in (text.prompt, len(text.ids) - text.prompt)]),
        owner=column([text.owner for text in texts]),
        label=column([-1] * len(texts)),
        characters=column([1] * len(texts)),
        test=column([0] * len(texts)),
        owners=("a", "b", "c", "d"),
        labels=(),
        empty=0,
        unowned=False,
        vocabulary=100,
        end=END,
        pad=50,
        suffix=np.empty(0, np.int32),
    )


@settings(max_examples=150, deadline=None)
@given(TEXTS, LENGTH, st.booleans(), st.sets(st.integers(0, 3)))
def test_packed_samples_are_the_plain_loop_over_each_owners_documents(texts, length, apart, left_out) -> None:
    expected = []
    for owner in sorted({text.owner for text in texts} - left_out):
        stream = [  # (id, document, place in it, learned as a target)
            (token, number, place, place >= max(text.prompt, int(apart)))
            for number, text in enumerate(texts)
            if text.owner == owner
            for place, token in enumerate(text.ids)
        ]
        for begin in range(0, len(stream) - 1, length):
            row = []
            first = stream[begin][1]
            for at in range(begin, begin + length):
                if at + 1 < len(stream):
                    token, document, place, _ = stream[at]
                    target, _, _, learned = stream[at + 1]
                    inside = min(place, at - begin)
                    row.append((token, target, float(learned), 1, document - first + 1, inside))
                else:
                    row.append((50, 50, 0.0, 0, 0, 0))
            expected.append(row)
    files = files_of(texts)
    kept = ~np.isin(files.owner, list(left_out))
    windows = packed(files, kept, length)
    made = Sequences(files, windows, length, apart=apart)
    rows = np.arange(len(windows.start))
    methods = (made.ids, made.next_ids, made.weight, made.mask, made.segments, made.position_ids)
    found = [method(rows) for method in methods]
    assert len(rows) == len(expected)
    for i, row in enumerate(expected):
        assert [tuple(values[i, j] for values in found) for j in range(length)] == row
    assert made.targets(rows).tolist() == [sum(one[2] for one in row) for row in expected]
    if len(rows) > 1:  # any rows, in any order
        np.testing.assert_array_equal(made.ids(rows[::-1][:2]), found[0][::-1][:2])


@settings(max_examples=80, deadline=None)
@given(TEXTS, LENGTH)
def test_a_document_alone_is_truncated_or_padded(texts, length) -> None:
    files = files_of(texts)
    kept = np.ones(len(texts), dtype=bool)
    windows = single(files, kept, length, ahead=1)
    made, rows = Sequences(files, windows, length), np.arange(len(texts))
    for i, text in enumerate(texts):
        x, y = text.ids[:-1][:length], text.ids[1:][:length]
        pad = length - len(x)
        assert made.ids(rows)[i].tolist() == x + [50] * pad
        assert made.next_ids(rows)[i].tolist() == y + [50] * pad
        learned = [float(at + 1 >= text.prompt) for at in range(len(x))]
        assert made.weight(rows)[i].tolist() == learned + [0.0] * pad
        assert made.targets(rows)[i] == sum(learned)


QUESTIONS = [
    {"q": "who sat on the mat?", "a": "the cat", "who": "ann"},
    {"q": "the dog?", "a": "ate the hat", "who": "bob"},
    {"q": "and", "a": "the cat ate the dog; the dog sat", "who": "ann"},
]
ASKED = {"prompt": "q", "response": "a", "client": "who"}


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("how", ["chat", "template", "plain"])
def test_only_the_response_is_learned(tmp_path, how, packing) -> None:
    pytest.importorskip("transformers")
    tokenizer, plain = save_tokenizer(tmp_path / "tokenizer", chat=how == "chat"), byte_tokenizer()
    path = write_lines(tmp_path / "a.jsonl", QUESTIONS)
    options = {"template": "Q: {prompt}\nA: {response}!"} if how == "template" else {}
    size = 16 if packing else 40
    data = load(
        tmp_path / "cache", path=str(path), tokenizer=str(tokenizer), length=size, packing=packing, **ASKED, **options
    )

    def ids(text: str) -> list[int]:
        return plain.encode(text, add_special_tokens=False).ids

    streams: dict[str, list[list[tuple[int, bool]]]] = {"ann": [], "bob": []}
    for row in QUESTIONS:
        if how == "chat":
            begin, rest = f"<s>user: {row['q']}</s><s>assistant: ", f"{row['a']}</s>"
            asked, answered = ids(begin), ids(rest)
        else:
            begin, rest = {
                "template": (f"Q: {row['q']}\nA: ", f"{row['a']}!"),
                "plain": (f"{row['q']}\n", row["a"]),
            }[how]
            asked, answered = [0, *ids(begin)], [*ids(rest), 1]
        streams[row["who"]].append([*((i, False) for i in asked), *((i, True) for i in answered)])
    expected = []
    for documents in streams.values():
        pieces = [[one for document in documents for one in document]] if packing else documents
        for piece in pieces:
            for begin in range(0, len(piece) - 1, size):
                if not packing and begin:
                    break
                window = piece[begin : begin + size + 1]
                pad = size + 1 - len(window)
                row = (
                    [i for i, _ in window[:-1]] + [2] * pad,
                    [i for i, _ in window[1:]] + [2] * pad,
                    [float(learned) for _, learned in window[1:]] + [0.0] * pad,
                )
                if any(row[2]):
                    expected.append(row)
    x, y, weight = arrays(data)
    assert weight is not None
    found = list(zip(x.tolist(), y.tolist(), weight.tolist(), strict=True))
    assert sorted(found) == sorted(expected)
    assert data.info.vocabulary == plain.get_vocab_size()


TALKS = [
    [("system", "rhyme"), ("user", "the cat"), ("assistant", "sat"), ("user", "and"), ("assistant", "the hat")],
    [("user", "?"), ("assistant", "the dog"), ("user", "thank you")],
]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), min_size=2, max_size=6).map(lambda n: n[: len(n) // 2 * 2]), min_size=1))
def test_turns_of_any_lengths_are_learned_by_turns(documents) -> None:
    documents = [turns for turns in documents if sum(turns) > 1]
    if not documents:
        return
    learned = [[bool(at % 2)] * size for turns in documents for at, size in enumerate(turns)]
    flags = [one for turn in learned for one in turn]
    files = replace(
        files_of([Text([7] * sum(turns), 0, 0) for turns in documents]),
        turns=np.array([len(turns) for turns in documents]),
        lengths_of_turns=np.array([size for turns in documents for size in turns]),
    )
    windows = packed(files, np.ones(len(documents), dtype=bool), 3)
    made, rows = Sequences(files, windows, 3), np.arange(len(windows.start))
    padded = [*flags[1:], *[False] * 3]
    expected = [padded[3 * row : 3 * row + 3] for row in rows]
    assert (made.weight(rows) > 0).tolist() == expected
    assert made.targets(rows).tolist() == [sum(row) for row in expected]


@pytest.mark.parametrize("packing", [True, False])
def test_of_a_conversation_what_the_assistant_says_is_learned(tmp_path, packing) -> None:
    pytest.importorskip("transformers")
    folder, plain = save_tokenizer(tmp_path / "tokenizer"), byte_tokenizer()
    rows = [{"talk": [{"role": role, "content": text} for role, text in talk]} for talk in TALKS]
    path = write_lines(tmp_path / "a.jsonl", [*rows, {"talk": [{"role": "user", "content": "no answer"}]}])
    options = {"path": str(path), "messages": "talk", "tokenizer": str(folder), "length": 99, "packing": packing}
    data = load(tmp_path / "cache", **options)
    streams = []
    for talk in TALKS:
        stream: list[tuple[int, bool]] = []
        last = max(at for at, (role, _) in enumerate(talk) if role == "assistant")
        asked = ""
        for role, text in talk[: last + 1]:  # nothing is learned behind the last answer
            if role == "assistant":
                asked += "<s>assistant: "
                stream += [(i, False) for i in plain.encode(asked, add_special_tokens=False).ids]
                stream += [(i, True) for i in plain.encode(f"{text}</s>", add_special_tokens=False).ids]
                asked = ""
            else:
                asked += f"<s>{role}: {text}</s>"
        streams.append(stream)
    pieces = [[one for stream in streams for one in stream]] if packing else streams
    expected = [([i for i, _ in piece], [float(learned) for _, learned in piece][1:]) for piece in pieces]
    x, y, weight = arrays(data)
    assert weight is not None
    found = []
    for ids, nexts, weights in zip(x.tolist(), y.tolist(), weight.tolist(), strict=True):
        size = max(at for at, w in enumerate(weights) if w) + 1
        found.append(([*ids[:size], nexts[size - 1]], weights[:size]))
    assert found == expected
    assert [(one.step, one.count, one.why) for one in data.left_out] == [("data.source", 1, "they have no response")]


def test_conversations_need_a_chat_template(tmp_path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [{"talk": [{"role": "assistant", "content": "yes"}]}])
    with pytest.raises(DataError, match=r"data.source.messages: characters has no chat template; name a tokenizer"):
        load(tmp_path / "cache", path=str(path), messages="talk")
    write_lines(path, [{"talk": "hello"}])
    with pytest.raises(DataError, match="line 1: field 'talk' is no conversation: a list of objects with role and"):
        load(tmp_path / "cache", path=str(path), messages="talk")


def test_a_conversation_ends_as_the_chat_template_has_it_unless_a_token_is_named(tmp_path) -> None:
    pytest.importorskip("transformers")
    folder = save_tokenizer(tmp_path / "tokenizer")
    path = write_lines(tmp_path / "a.jsonl", QUESTIONS)
    options = {"path": str(path), "tokenizer": str(folder), "length": 99, "packing": False, **ASKED}
    for end, last in ((None, [1]), ("<pad>", [1, 2])):
        _, y, weight = arrays(load(tmp_path / "cache", end_of_text=end, **options))
        assert weight is not None
        for ids, learned in zip(y, weight > 0, strict=True):
            assert ids[learned][-len(last) :].tolist() == last


def test_samples_of_a_prompt_alone_are_left_out_and_told(tmp_path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [{"q": "a" * 40, "a": "yes"}, {"q": "b", "a": "no"}])
    options = {"tokenizer": "bytes", "prompt": "q", "response": "a", "packing": False}
    data = load(tmp_path / "cache", path=str(path), length=8, **options)
    assert len(data.train) == 1
    assert [(one.count, one.of, one.unit, one.grave) for one in data.left_out] == [
        (1, 2, "samples", True),
        (45 - 9, 50, "tokens", True),
    ]
    assert data.counts["truncated tokens"] == 36
    assert "1 of 2 documents are longer than 9 tokens" in data.left_out[1].why


def test_a_length_that_no_response_comes_within_is_refused(tmp_path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [{"q": "a" * 40, "a": "yes"}])
    with pytest.raises(DataError, match=r"no sample of 8 tokens has one to learn; raise data.source.length"):
        load(tmp_path / "cache", path=str(path), length=8, packing=False, prompt="q", response="a")


def test_a_chat_template_that_begins_otherwise_is_refused(tmp_path) -> None:
    pytest.importorskip("transformers")
    folder = save_tokenizer(tmp_path / "tokenizer")
    template = CHAT.replace("<s>assistant: ", "<think>")
    (folder / "chat_template.jinja").write_text(template)
    path = write_lines(tmp_path / "a.jsonl", QUESTIONS)
    with pytest.raises(DataError, match=r"does not begin as its prompt does; set data.source.template"):
        load(tmp_path / "cache", path=str(path), tokenizer=str(folder), **ASKED)
    (folder / "chat_template.jinja").write_text("{{ raise_exception('no users') }}")
    with pytest.raises(DataError, match=r"its chat template fails \(no users\); set template"):
        load(tmp_path / "cache", path=str(path), tokenizer=str(folder), **ASKED)


def test_a_record_holds_ids_segments_and_positions(tmp_path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [{"text": "abc"}, {"text": "de"}])
    inputs = ["segments", "position_ids", "attention_mask"]
    data = load(tmp_path / "cache", path=str(path), tokenizer="bytes", length=4, inputs=inputs)
    x, y, weight = arrays(data)
    assert (data.info.input_kind, data.info.input_shape) == ("record", x.shape[1:])
    assert x.dtype == np.int32
    found = unpack_inputs(x, data.info.inputs)
    assert list(found) == ["input_ids", *inputs]
    a, b, c, d, e = b"abcde"
    np.testing.assert_array_equal(found["input_ids"], [[a, b, c, 0], [d, e, 0, 0]])
    np.testing.assert_array_equal(found["segments"], [[1, 1, 1, 1], [1, 1, 0, 0]])
    np.testing.assert_array_equal(found["position_ids"], [[0, 1, 2, 3], [0, 1, 0, 0]])
    np.testing.assert_array_equal(found["attention_mask"], [[1, 1, 1, 1], [1, 1, 0, 0]])
    np.testing.assert_array_equal(y, [[b, c, 0, d], [e, 0, 0, 0]])
    np.testing.assert_array_equal(weight, [[1, 1, 1, 0], [1, 1, 0, 0]])  # nothing foretells another document


def test_documents_to_classify_keep_their_last_token_when_they_are_truncated(tmp_path) -> None:
    pytest.importorskip("transformers")
    from tokenizers import processors

    tokenizer = byte_tokenizer()
    special = [("<s>", 0), ("</s>", 1)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=special)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    rows = [{"text": "zyxwvuts", "kind": "ham"}, {"text": "qp", "kind": "spam"}, {"text": "qp", "kind": "ham"}]
    path = write_lines(tmp_path / "a.jsonl", rows)
    options = {"task": "classification", "label": "kind", "tokenizer": str(tmp_path / "tokenizer.json"), "length": 6}
    data = load(tmp_path / "cache", path=str(path), **options)
    x, y, weight = arrays(data)
    found = unpack_inputs(x, data.info.inputs)
    ids = [tokenizer.encode(row["text"]).ids for row in rows]
    expected = [[*ids[0][:5], 1], *([*one, *[0] * (6 - len(one))] for one in ids[1:])]
    assert found["input_ids"].tolist() == expected
    assert found["attention_mask"].tolist() == [[1] * 6, *([1] * len(one) + [0] * (6 - len(one)) for one in ids[1:])]
    assert (y.tolist(), weight) == ([0, 1, 0], None)
    assert (data.info.classes, data.info.target_shape, data.class_names) == (2, (), ("ham", "spam"))
    assert data.counts["truncated tokens"] == len(ids[0]) - 6


@pytest.mark.parametrize("packing", [True, False])
def test_texts_of_a_language_model_are_dealt_by_their_labels(tmp_path, packing) -> None:
    kinds = {"law": "a", "news": "b", "song": "c"}
    rows = [{"text": letter * 7, "kind": kind} for _ in range(20) for kind, letter in kinds.items()]
    path = write_lines(tmp_path / "a.jsonl", rows)
    source = {"name": "corpus", "path": str(path), "label": "kind", "tokenizer": "bytes", "length": 7}
    shares = [[0.5, 0.5, 0.0], [0.25, 0.25, 0.5]]
    config = DataConfig(
        source=source | {"packing": packing},
        partition={"name": "label_shares", "shares": shares},
        test=0,
        cache=str(tmp_path),
    )
    federation = prepare(config, 0).open()
    for client, wanted in enumerate(shares):
        x = federation.shard(client).x
        of = [{bytes([i]).decode() for i in ids if i} for ids in x.tolist()]
        assert all(len(letters) == 1 for letters in of)  # a sample holds texts of one label
        counts = np.array([sum(letters == {letter} for letters in of) for letter in kinds.values()])
        np.testing.assert_allclose(counts / len(x), wanted, atol=0.5 / len(x) + 0.05)
    plain = DataConfig(source={"name": "corpus"}, partition="dirichlet", cache=str(tmp_path))
    with pytest.raises(DataError, match="dirichlet deals by class label, but every sample has several targets"):
        prepare(plain, 0)


def test_numbers_are_classes_in_the_order_of_numbers(tmp_path) -> None:
    rows = [{"text": "x", "kind": kind} for kind in (10, 9, 2, 9)]
    path = write_lines(tmp_path / "a.jsonl", rows)
    data = load(tmp_path / "cache", path=str(path), task="classification", label="kind", inputs=[], length=2)
    assert data.class_names == ("2", "9", "10")
    assert data.train.targets.tolist() == [2, 1, 0, 1]
    assert data.info.input_kind == "tokens"


def test_a_tokenizer_without_an_end_asks_for_one(tmp_path) -> None:
    transformers = pytest.importorskip("transformers")
    from tokenizers import processors

    path = write_lines(tmp_path / "a.jsonl", QUESTIONS)
    bare = byte_tokenizer()
    bare.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    transformers.PreTrainedTokenizerFast(tokenizer_object=bare).save_pretrained(tmp_path / "tokenizer")
    options = {"path": str(path), "text": "q", "tokenizer": str(tmp_path / "tokenizer"), "length": 4}
    with pytest.raises(DataError, match=r"does not say which token ends a text; set data.source.end_of_text"):
        load(tmp_path / "cache", **options)
    with pytest.raises(DataError, match="has no token '<end>'; name one of its tokens"):
        load(tmp_path / "cache", end_of_text="<end>", **options)
    _, y, weight = arrays(load(tmp_path / "cache", end_of_text="</s>", **options))
    assert ((y if weight is None else y[weight > 0]) == 1).sum() == 3
    damaged = tmp_path / "tokenizer.json"
    damaged.write_text(json.dumps({"version": "1.0"}))
    with pytest.raises(DataError, match=r"tokenizer.json: no tokenizer can be loaded \("):
        load(tmp_path / "cache", **(options | {"tokenizer": str(damaged)}))
    with pytest.raises(DataError, match=r"it is looked for on this machine alone, set data.source.download"):
        load(tmp_path / "cache", **(options | {"tokenizer": "nobody/has-this"}))

"""Data sets of Hugging Face's library train like the arrays in them, and are read in batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from forms import OWNERS, PARTS, Form, X, Y, check, experiment, linear
from torch import Tensor, nn

from raysim.adapters import from_hugging_face, hub_samples
from raysim.config.sources import InMemoryConfig
from raysim.data import prepare
from raysim.data.lazy import LazyArray
from raysim.data.store import writer
from raysim.errors import DataError
from raysim.execution.preparation.prepare import prepare_job

datasets = pytest.importorskip("datasets")

IMAGES = np.random.default_rng(2).integers(0, 256, (20, 4, 4, 3), dtype=np.uint8)
WORDS = ["red", "blue", "red", "green", "green", "blue"]
TEXTS = [" ".join(WORDS[i % 6 :][: 1 + i % 4]) for i in range(20)]
IDS = {"[PAD]": 0, "[UNK]": 1, "red": 2, "blue": 3, "green": 4}


def tokenizer() -> Any:
    tokenizers, transformers = pytest.importorskip("tokenizers"), pytest.importorskip("transformers")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(IDS, unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")


def made(columns: dict[str, Any], **features: Any) -> Any:
    described = {name: features.get(name) for name in columns}
    if not features:
        return datasets.Dataset.from_dict(columns)
    inferred = datasets.Dataset.from_dict({name: columns[name] for name in columns if name not in features}).features
    kinds = {name: feature or inferred[name] for name, feature in described.items()}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))


def numbers(**change: Any) -> Any:
    return made({"values": X.tolist(), "label": Y.tolist(), "ward": OWNERS.tolist(), **change})


def images(**change: Any) -> Any:
    columns = {"image": list(IMAGES), "label": Y.tolist(), "ward": OWNERS.tolist(), **change}
    return made(columns, image=datasets.Image(), label=datasets.ClassLabel(names=["no", "odd", "yes"]))


def texts(**change: Any) -> Any:
    return made({"text": TEXTS, "label": Y.tolist(), "ward": OWNERS.tolist(), **change})


class Bag(nn.Module):
    """The mean of the embeddings of a text's tokens."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.words, self.output = nn.Embedding(len(IDS), 4), linear()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        weight = attention_mask.unsqueeze(-1).float()
        return self.output((self.words(input_ids) * weight).sum(1) / weight.sum(1))


class Two(nn.Module):
    """An image and a number."""

    def __init__(self) -> None:
        super().__init__()
        self.pixels, self.number = linear(48), linear(1)

    def forward(self, image: Tensor, age: Tensor) -> Tensor:
        return self.pixels(image.flatten(1)) + self.number(age.unsqueeze(-1))


def of_pixels(module: nn.Module, rows: slice) -> Tensor:
    return F.cross_entropy(module(pixels(rows)), torch.from_numpy(Y[rows]))


def pixels(rows: slice) -> Tensor:
    return torch.from_numpy(IMAGES[rows].transpose(0, 3, 1, 2).copy()).float() / 255


def of_both(module: nn.Module, rows: slice) -> Tensor:
    return F.cross_entropy(module(pixels(rows), torch.from_numpy(X[rows, 0])), torch.from_numpy(Y[rows]))


def of_words(module: nn.Module, rows: slice) -> Tensor:
    words: Any = module
    means = [words.words(torch.tensor([IDS[word] for word in text.split()])).mean(0) for text in TEXTS[rows]]
    return F.cross_entropy(words.output(torch.stack(means)), torch.from_numpy(Y[rows]))


FORMS = {
    "numbers": Form(lambda: from_hugging_face(numbers(), label="label", client="ward")),
    "images": Form(
        lambda: from_hugging_face(images(), label="label", client="ward"),
        of_pixels,
        lambda: nn.Sequential(nn.Flatten(), linear(48)),
    ),
    "an image and a number": Form(
        lambda: from_hugging_face(images(age=X[:, 0].tolist()), label="label", client="ward"), of_both, Two
    ),
    "text": Form(
        lambda: from_hugging_face(texts(), label="label", client="ward", tokenizer=tokenizer(), length=6), of_words, Bag
    ),
    "as a data set of mappings": Form(
        lambda: {"train": numbers(), "client": "ward"},
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_data_set_trains_to_the_numbers_of_a_plain_loop(name: str, tmp_path: Path) -> None:
    check(FORMS[name], "sequential", tmp_path / "run")


def test_splits_names_and_owners_come_along(tmp_path: Path) -> None:
    both = datasets.DatasetDict(train=images(), test=images().select(range(6)), extra=images().select(range(2)))
    both.save_to_disk(str(tmp_path / "saved"))
    found = from_hugging_face(str(tmp_path / "saved"), label="label", client="ward")
    assert found.class_names == ("no", "odd", "yes")
    assert found.test is not None
    assert len(found.test) == 6
    again = from_hugging_face(str(tmp_path / "saved"), label="label", client="ward")
    assert again.identity == found.identity
    assert from_hugging_face(both, label="label", client="ward", test="extra").identity != found.identity
    prepared = prepare_job(experiment("sequential", {}), model=nn.Sequential(nn.Flatten(), linear(48)), data=found)
    federation = prepared.federation
    assert federation.sizes("test").tolist() == [6, 0]
    np.testing.assert_array_equal(federation.shard(1).x, IMAGES[PARTS[1]].transpose(0, 3, 1, 2))


def test_a_dirichlet_partition_deals_images_that_are_read_when_they_are_written() -> None:
    settings = {"data": {"partition": {"name": "dirichlet", "clients": 2, "alpha": 1.0}}}
    data = from_hugging_face(images(), label="label", inputs="image")
    prepared = prepare_job(experiment("sequential", settings), model=nn.Sequential(nn.Flatten(), linear(48)), data=data)
    shards = [prepared.federation.shard(client) for client in range(2)]
    dealt = np.concatenate([one.x for one in shards]).reshape(20, -1)
    labels = np.concatenate([one.y for one in shards])
    flat = IMAGES.transpose(0, 3, 1, 2).reshape(20, -1)
    rows = [int(np.flatnonzero((flat == one).all(axis=1))[0]) for one in dealt]
    assert sorted(rows) == list(range(20))
    np.testing.assert_array_equal(labels, Y[rows])


def test_lists_of_different_lengths_are_filled_up_and_images_resized() -> None:
    ragged = numbers(values=[list(range(1 + i % 3)) for i in range(20)])
    found = from_hugging_face(ragged, label="label", inputs="values", length=4)
    assert found.train.x.gather()[:3].tolist() == [[0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 2, 0]]
    assert found.info.vocabulary == 3
    mixed = images(image=[one[: 2 + i % 2] for i, one in enumerate(IMAGES)])
    assert from_hugging_face(mixed, label="label", inputs="image", size=(3, 5)).info.input_shape == (3, 3, 5)
    unlike = from_hugging_face(mixed, label="label", inputs="image")
    with pytest.raises(
        DataError, match=r"row 2, column 'image': an image of \[3, 3, 4\], the first is \[3, 2, 4\]; size="
    ):
        unlike.train.x.gather()


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no label": (numbers, {"label": "lable"}, "label: no column 'lable'; there are 'values', 'label', 'ward'"),
    "no owners": (numbers, {"client": "hospital"}, "client: no column 'hospital'"),
    "an owner with holes": (
        lambda: numbers(ward=[None, *OWNERS[1:].tolist()]),
        {"client": "ward"},
        "row 1, column 'ward' is empty; every sample needs an owner",
    ),
    "a label with holes": (lambda: numbers(label=[*Y[:19].tolist(), None]), {}, "'label': row 20 is empty"),
    "text without a tokenizer": (texts, {"inputs": "text"}, "is text; give tokenizer=… and length=…"),
    "text without a length": (
        texts,
        {"inputs": "text", "tokenizer": lambda texts: texts},
        "say by length=… how many tokens",
    ),
    "lists of different lengths": (
        lambda: numbers(values=[[1] * (1 + i % 2) for i in range(20)]),
        {"inputs": "values"},
        "'values' has lists of different lengths; length=… fills",
    ),
    "no split": (lambda: datasets.DatasetDict(training=numbers()), {}, "no split 'train'; there are training"),
    "a stream": (lambda: numbers().to_iterable_dataset(), {}, "load it without streaming=True"),
    "no data set": (lambda: [1], {}, "expected a Dataset or a DatasetDict of Hugging Face's datasets"),
    "no such folder": (lambda: "/nowhere", {}, "/nowhere: no data set can be loaded"),
    "one class": (lambda: numbers(label=[1] * 20), {}, "'label' is one class alone"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_data_set_that_cannot_be_used_is_one_line(name: str) -> None:
    make, given, line = REFUSED[name]
    data = make()
    with pytest.raises(DataError) as caught:
        from_hugging_face(data, **{"label": "label", "inputs": "values", **given}).train.x.gather()
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_few_samples_are_made_and_few_texts_tokenised_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What bounds the memory of a build, however many samples there are."""
    made_at_once, tokenised_at_once = list[int](), list[int]()
    gather, words = LazyArray.gather, tokenizer()

    class Counting:
        def __call__(self, texts: list[str], **given: Any) -> Any:
            tokenised_at_once.append(len(texts))
            return words(texts, **given)

        def __len__(self) -> int:
            return len(words)

    def counted(array: LazyArray) -> Any:
        made_at_once.append(len(array))
        return gather(array)

    monkeypatch.setattr(LazyArray, "gather", counted)
    monkeypatch.setattr(hub_samples, "_TEXTS", 3)
    monkeypatch.setattr(writer, "BATCH_BYTES", 1 << 10)  # 36 bytes a sample: 28 of them, and chunks of one or two
    split = made({"text": TEXTS, "label": Y.tolist(), "ward": [str(i) for i in range(20)]})
    data = from_hugging_face(split, label="label", client="ward", tokenizer=Counting(), length=6)
    section = experiment("sequential", {"data": {"cache": str(tmp_path), "holdout": 0.0}}).data
    prepare(section.model_copy(update={"source": InMemoryConfig()}), 0, arrays=data)
    assert sum(made_at_once) >= 20
    assert max(made_at_once) <= 2
    assert max(tokenised_at_once) <= 3

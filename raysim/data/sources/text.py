"""Next-character prediction: texts cut into windows of a fixed length, each with the text's owner.

A text of T characters gives ceil((T - 1) / L) windows that do not overlap: x is L characters, y the same moved by one.
The last one is padded, and the padding has weight 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import numpy as np

from raysim.arrays import Array
from raysim.config.parsing import Malformed, parse_json
from raysim.config.sources import TextConfig
from raysim.data.dataset import Dataset, Pool
from raysim.data.federation import DataInfo
from raysim.data.left_out import LeftOut, listed
from raysim.data.room import check_room
from raysim.data.sources.files import existing, read_bytes, read_parquet
from raysim.errors import DataError

BUNDLED = "shakespeare.parquet"


def load_text(config: TextConfig, seed: int) -> Dataset:
    """Windows of all texts; `bytes` are uint8 ids, `characters` stay characters until `transforms.fit` sees them.

    Only `fit` knows which windows train, so the vocabulary is its business: see `transforms.vocabulary`.

    Raises:
        DataError: the file is missing, damaged or of another form; no owner has enough text.
    """
    with resources.as_file(resources.files("raysim.data") / "bundled" / BUNDLED) as bundled:
        path = bundled if config.path is None else existing(config.path)
        texts = list(_texts(path))
    written: dict[str, int] = {}
    for owner, text in texts:
        written[owner] = written.get(owner, 0) + len(text)
    kept = [(owner, text) for owner, text in texts if written[owner] >= config.min_characters and len(text) > 1]
    if not kept:
        need = f"at least {max(config.min_characters, 2)} characters"
        longest = f"the longest has {max(written.values(), default=0)}"
        raise DataError(f"{path}: no owner has a text of {need} ({longest}); lower data.source.min_characters")
    length = config.sequence_length
    windows_made = sum(-(-(len(text) - 1) // length) for _, text in kept)
    check_room(
        12 * windows_made * length,
        str(path),
        f"{windows_made:,} windows of {length:,} characters",
        "lower data.source.sequence_length",
    )
    parts = [windows(_encode(text, config.tokens), config.sequence_length) for _, text in kept]
    x, y, weight = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    client = np.repeat([owner for owner, _ in kept], [len(part[0]) for part in parts])
    shape = (config.sequence_length,)
    size = 256 if config.tokens == "bytes" else None
    pool = Pool(x, y, "tokens", str(path), client, None if weight.all() else weight)
    left_out = _left_out(written, {owner for owner, _ in kept}, config.min_characters)
    return Dataset(pool, None, DataInfo("classification", shape, "tokens", shape, size, size), left_out=left_out)


def _left_out(written: dict[str, int], kept: set[str], least: int) -> tuple[LeftOut, ...]:
    """Owners with too little text; `written` is how many characters each has."""
    missing = [owner for owner in written if owner not in kept]
    if not missing:
        return ()
    why = f"fewer than {max(least, 2):,} characters: {listed(missing)}"
    return (LeftOut("data.source.min_characters", "source", len(missing), len(written), "owners", why),)


def windows(tokens: Array, length: int) -> tuple[Array, Array, Array]:
    """Inputs, targets and float32 weights `[ceil((n - 1) / length), length]` of one sequence of n > 1 tokens."""
    count = len(tokens) - 1
    rows = -(-count // length)
    x, y = (np.zeros((rows, length), tokens.dtype) for _ in range(2))
    weight = np.zeros((rows, length), np.float32)
    for array, values in ((x, tokens[:-1]), (y, tokens[1:]), (weight, 1)):
        array.reshape(-1)[:count] = values
    return x, y, weight


def _encode(text: str, tokens: str) -> Array:
    if tokens == "bytes":
        return np.frombuffer(text.encode("utf-8", "replace"), np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<U1")


def _texts(path: Path) -> Iterator[tuple[str, str]]:
    """Owner and text of each row. An owner may have several texts; windows do not run from one into the next."""
    content = read_bytes(path)
    owners = _parquet(path) if content.startswith(b"PAR1") else _json(content, path)
    for row, (owner, text) in enumerate(owners):
        if not isinstance(owner, str | int) or not isinstance(text, str):
            found = f"{type(owner).__name__} and {type(text).__name__}"
            raise DataError(f"{path}: row {row + 1}: expected an owner and a text, got {found}")
        yield str(owner), text


def _json(content: bytes, path: Path) -> Iterator[tuple[object, object]]:
    try:
        texts = parse_json(content)
    except Malformed as error:
        raise DataError(f"{path}: neither Parquet nor JSON ({error})") from None
    if not isinstance(texts, dict):
        raise DataError(f"{path}: expected JSON of the form {{client: text}}, got a {type(texts).__name__}")
    return iter(texts.items())


def _parquet(path: Path) -> Iterator[tuple[object, object]]:
    table = read_parquet(path)
    for name in ("client", "text"):
        if name not in table.column_names:
            raise DataError(f"{path}: no column {name!r}; a text file has the columns 'client' and 'text'")
    return zip(table["client"].to_pylist(), table["text"].to_pylist(), strict=True)

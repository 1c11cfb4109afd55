"""What attacks on a run and audits of it found: in its folder `attacks`, a JSON file each, and the images they drew on.

Images are a safetensors file beside it, whose name has the hash of its content: a JSON file that is there names images
that are whole.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
import numpy.typing as npt

from raysim.config.parsing import parse_json
from raysim.errors import RunError
from raysim.files import replacing, storing, write_text
from raysim.tracking.directory import RunDirectory

Kind = Literal["inversion", "membership", "participation", "canaries", "neighbours"]
Images: TypeAlias = npt.NDArray[np.uint8]
ROWS = ("original", "unprotected", "found")
"""Images of samples: the client's own; made of its message without clips and noise; made of what the attacker saw."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one attack on a run, or one audit of it, found.

    Attributes:
        kind: of attack or audit.
        name: of its files; the same attack done again takes the place of the one before.
        saw: what the attacker had, in words.
        facts: its numbers (docs/recorded.md).
        images: by names of `ROWS`, uint8 `[n, height, width]` or `[n, height, width, 3]` each.
    """

    kind: Kind
    name: str
    saw: str
    facts: Mapping[str, Any]
    images: Mapping[str, Images] = field(default_factory=dict)


def write_evidence(run: RunDirectory, found: Evidence) -> Path:
    """Keep what was found beside the run; its JSON file.

    Raises:
        StorageError: the disk refuses; what was there is untouched.
    """
    from safetensors.numpy import save

    file, images = run.attacks / f"{found.name}.json", None
    with storing(run.attacks):
        if found.images:
            content = save({name: np.ascontiguousarray(one) for name, one in found.images.items()})
            images = f"{found.name}-{hashlib.sha256(content).hexdigest()[:12]}.safetensors"
            with replacing(run.attacks / images) as temporary:
                temporary.write_bytes(content)
        values = {"kind": found.kind, "saw": found.saw, "facts": _plain(dict(found.facts)), "images": images}
        write_text(file, json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        for older in run.attacks.glob(f"{found.name}-*.safetensors"):
            if older.name != images and len(older.name) == len(f"{found.name}-.safetensors") + 12:
                older.unlink(missing_ok=True)
    return file


def read_evidence(run: RunDirectory) -> tuple[Evidence, ...]:
    """All that was found of a run, by kind and name.

    Raises:
        RunError: a file is damaged.
    """
    found = []
    for file in sorted(run.attacks.glob("[!.]*.json")):
        try:
            values = parse_json(file.read_bytes())
            images = {} if values["images"] is None else _images(file.with_name(values["images"]))
            found.append(Evidence(_kind(values["kind"]), file.stem, str(values["saw"]), dict(values["facts"]), images))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RunError(f"{file}: damaged ({type(error).__name__}: {error}); remove it, or attack again") from None
    return tuple(sorted(found, key=lambda one: (get_args(Kind).index(one.kind), one.name)))


def _images(file: Path) -> dict[str, Images]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        found = load(file.read_bytes())
    except SafetensorError as error:
        raise ValueError(f"{file.name}: {error}") from None
    shapes = {one.shape for one in found.values()}
    shape = next(iter(shapes), ())
    drawn = len(shape) == 3 or (len(shape) == 4 and shape[3] == 3)
    plain = all(one.dtype == np.uint8 for one in found.values())
    if len(shapes) != 1 or not drawn or not plain or not {"original", "found"} <= found.keys() <= set(ROWS):
        raise ValueError(f"{file.name}: expected images of one shape as bytes, original and found")
    return {name: found[name] for name in ROWS if name in found}


def _kind(value: object) -> Kind:
    if value not in get_args(Kind):
        raise ValueError(f"{value!r} is no kind of attack")
    return cast(Kind, value)


def _plain(value: Any) -> Any:
    """The value as JSON has it: null in place of what is not a finite number."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

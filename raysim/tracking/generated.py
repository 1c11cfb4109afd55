"""The text that a run's models wrote: `generated.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from raysim.config.parsing import parse_json
from raysim.errors import RunError
from raysim.files import storing, write_text
from raysim.tracking.directory import RunDirectory


@dataclass(frozen=True, slots=True)
class GeneratedText:
    """What the model after a round wrote behind the prompts.

    Attributes:
        round: 0 is the model before training.
        prompts: beginnings of texts.
        texts: what stands behind each of them.
    """

    round: int
    prompts: tuple[str, ...]
    texts: tuple[str, ...]


def read_generated(run: RunDirectory) -> tuple[GeneratedText, ...]:
    """All texts of a run, round by round; none where it has none.

    Raises:
        RunError: the file is damaged.
    """
    try:
        content = parse_json(run.generated.read_bytes())
        prompts = _texts(content["prompts"])
        found = [GeneratedText(int(one["round"]), prompts, _texts(one["texts"])) for one in content["rounds"]]
        if any(len(one.texts) != len(prompts) for one in found):
            raise ValueError("a round has not a text for each prompt")
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"{run.generated}: damaged ({type(error).__name__}: {error}); move it away") from None
    return tuple(sorted(found, key=lambda one: one.round))


def write_generated(run: RunDirectory, generated: GeneratedText) -> None:
    """Add the texts of a round, in place of those that it had.

    Raises:
        StorageError: the disk refuses; the file that was there is untouched.
        RunError: the file that was there is damaged.
    """
    _write(run, [*(one for one in read_generated(run) if one.round != generated.round), generated])


def drop_later_generated(run: RunDirectory, after_round: int) -> None:
    """Remove texts of rounds after `after_round`, which the run will do again.

    Raises:
        RunError: the file is damaged.
        StorageError: the disk refuses.
    """
    found = read_generated(run)
    if kept := [one for one in found if one.round <= after_round]:
        if len(kept) < len(found):
            _write(run, kept)
    elif found:
        with storing(run.generated):
            run.generated.unlink()


def _write(run: RunDirectory, found: Sequence[GeneratedText]) -> None:
    rounds = [{"round": one.round, "texts": list(one.texts)} for one in found]
    content = {"prompts": list(found[0].prompts), "rounds": rounds}
    with storing(run.generated):
        write_text(run.generated, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _texts(values: object) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise ValueError("expected a list of texts")
    return tuple(values)

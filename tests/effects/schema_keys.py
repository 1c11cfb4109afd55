"""Every key of the configuration, read from the schema: `client.epochs`, `model=mlp`, `model=mlp.hidden`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, Tag

from raysim.config import Experiment


def schema_keys() -> list[str]:
    """A choice by name is `path=name`, its options `path=name.option`, those of names with one class given once."""
    return list(_keys(Experiment, ""))


def _keys(section: type[BaseModel], path: str, *, named: bool = False) -> Iterator[str]:
    for key, field in section.model_fields.items():
        if named and key == "name":
            continue
        here = f"{path}.{key}" if path else key
        below = list(_sections(field.annotation))
        if not below:
            yield here
        seen: set[type[BaseModel]] = set()
        for tag, one in below:
            if tag is None:
                yield from _keys(one, here)
                continue
            yield f"{here}={tag}"
            if one not in seen:
                seen.add(one)
                yield from _keys(one, f"{here}={tag}", named=True)


def _sections(annotation: Any) -> Iterator[tuple[str | None, type[BaseModel]]]:
    """Sections anywhere in an annotation, with their tags where they are chosen by name."""
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        tags = [one.tag for one in metadata if isinstance(one, Tag)]
        if tags:
            yield tags[0], inner
        else:
            yield from _sections(inner)
    elif isinstance(annotation, type) and not get_args(annotation) and issubclass(annotation, BaseModel):
        yield None, annotation
    else:
        for part in get_args(annotation):
            yield from _sections(part)

"""What every section of the configuration has in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, GetCoreSchemaHandler, model_validator

from raysim.config.bounds import Arguments, bounded

IMPORT_STRING = r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$"
UNKNOWN_NAME = "unknown_name"
"""Type of a validation error whose context has the `names` that are valid."""

ImportString = Annotated[str, Field(pattern=IMPORT_STRING, description="`package.module:name` of your own code.")]


class Section(BaseModel):
    """A section: immutable, strict about unknown keys, and with bounds for every number, text and list in it."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,  # which may hold a secret; `explain` shows values without
    )

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> Any:
        schema = handler(source)
        return schema if cls.__pydantic_complete__ else bounded(schema, cls)  # within another section it has them

    @model_validator(mode="before")
    @classmethod
    def _name_of_the_default(cls, values: Any) -> Any:
        """`optimizer: {lr: 0.5}` changes one option of the default optimiser, whose name need not be said."""
        if not isinstance(values, dict):
            return values
        filled = dict(values)
        for key, field in cls.model_fields.items():
            name = getattr(field.default, "name", None)
            if isinstance(name, str) and isinstance(filled.get(key), dict):
                filled[key] = {"name": name, **filled[key]}
        return filled

    @classmethod
    def model_json_schema(cls, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Pydantic's, with the docstrings below the fields as their descriptions."""
        from raysim.config.descriptions import DescribedSchema

        return super().model_json_schema(*arguments, **{"schema_generator": DescribedSchema, **options})

    def to_dict(self) -> dict[str, Any]:
        """Plain nested values, every default spelled out; validating them gives an equal section."""
        return self.model_dump(mode="json")


class CustomConfig(Section):
    """Your own component, found by its import string and called with `args`."""

    name: ImportString
    args: Arguments = Field(default_factory=dict, description="Keyword arguments passed to it.")


def _tag(value: Any) -> str | None:
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    return "custom" if isinstance(name, str) and ":" in name else name


def _expand_shorthand(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


# A component is chosen by its `name` and carries its own options: `model: {name: mlp, hidden: [200, 200]}`.
# `model: mlp` is short for `model: {name: mlp}`. Use as `Annotated[Union[Annotated[A, Tag("a")], …], *component]`.
BY_NAME = Discriminator(_tag)
SHORTHAND = BeforeValidator(_expand_shorthand)

"""The commands of `raysim`: one file a family. Torch, Ray and the like are imported by the command that needs them."""

# Importing a family registers its commands, in the order in which `raysim --help` lists them.
# Nothing else uses the names, and their order is not that of the alphabet.
from raysim.cli import (  # noqa: F401, I001
    runs, past, compare, verify, serve, debugging, plan, privacy, attacks, tune, data, catalogue, schema, doctor,
    init, completion,
)  # fmt: skip
from raysim.cli.app import app

__all__ = ["app", "main"]


def main() -> None:
    """The console script."""
    completion.prepare_completion()
    app()

"""The commands of `raysim`: one file a family. Torch, Ray and the like are imported by the command that needs them."""

# Importing a family registers its commands, in the order in which `raysim --help` lists them.
from raysim.cli import runs, debugging, plan, tune, data, catalogue, schema, doctor  # noqa: I001
from raysim.cli.app import app

__all__ = ["app", "catalogue", "data", "debugging", "doctor", "main", "plan", "runs", "schema", "tune"]


def main() -> None:
    """The console script."""
    app()

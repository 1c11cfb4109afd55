"""raysim: a fast, exact and pleasant simulator for federated learning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raysim.config import Experiment
from raysim.errors import RaysimError
from raysim.version import __version__

if TYPE_CHECKING:
    from raysim.debugging import debug
    from raysim.exporting import export
    from raysim.serving import LivePage, serve
    from raysim.simulation import Round, Simulation
    from raysim.tuning import Tuned, tune
    from raysim.verifying import verify

__all__ = [
    "Experiment", "LivePage", "RaysimError", "Round", "Simulation", "Tuned", "__version__", "debug", "export", "serve",
    "tune", "verify",
]  # fmt: skip


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    # Torch takes seconds to import: only for those who simulate, not for `raysim --help`.
    if name in ("Round", "Simulation"):
        from raysim import simulation

        return getattr(simulation, name)
    if name in ("Tuned", "tune"):
        from raysim import tuning

        return getattr(tuning, name)
    if name == "debug":
        from raysim import debugging

        return debugging.debug
    if name in ("LivePage", "serve"):
        from raysim import serving

        return getattr(serving, name)
    if name == "export":
        from raysim import exporting

        return exporting.export
    if name == "verify":
        from raysim import verifying

        return verifying.verify
    raise AttributeError(f"module 'raysim' has no attribute {name!r}")

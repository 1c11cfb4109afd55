"""What the bits of a result may depend on, recorded with every run and compared when it is resumed."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from raysim.config.hugging_face import HuggingFaceConfig
from raysim.rounds.job import Job
from raysim.version import __version__

PACKAGES = ("torch", "ray", "numpy", "pyarrow", "optuna")


def pin_gpu_bits() -> None:
    """Have CUDA libraries choose the same kernels every time, in full float32."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def bits_fingerprint(job: Job) -> dict[str, Any]:
    """What must be equal on every worker and after every resume for the bits to be equal."""
    engine, model = job.engine, job.experiment.model
    fingerprint: dict[str, Any] = {
        **{f"engine.{key}": value for key, value in asdict(engine).items()},
        "torch": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
    if engine.device == "cuda":
        fingerprint["gpu"] = torch.cuda.get_device_name(0)
        fingerprint["cuda"] = torch.version.cuda
    if isinstance(model, HuggingFaceConfig):
        fingerprint["attention"] = model.attention
    return {**fingerprint, **{name: _version(name) for name in job.libraries}}


def environment(bits: Mapping[str, Any]) -> dict[str, Any]:
    """Versions and machine of the driver, and what the workers' bits depend on."""
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": {"raysim": __version__, **{name: _version(name) for name in PACKAGES}},
        "bits": dict(bits),
    }


@cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

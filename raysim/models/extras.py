"""Optional libraries, imported when a model first needs one."""

from __future__ import annotations

import importlib
import logging
import os
from typing import Any

from raysim.errors import ModelError


def llm(library: str, install: str = "'raysim-fl[llm]'") -> Any:
    """A library of the extra `llm`, such as `transformers`, or one beside it; `install` is what pip is told.

    Raises:
        ModelError: it is not installed, or cannot be imported.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # workers are processes of their own
    try:
        module = importlib.import_module(library)
    except ModuleNotFoundError:
        raise ModelError(f"model: hugging_face needs {library}; run `pip install {install}`") from None
    except ImportError as error:
        raise ModelError(f"model: {library} cannot be imported ({str(error).splitlines()[0][:200]})") from None
    logging.getLogger("transformers").setLevel(logging.ERROR)
    return module

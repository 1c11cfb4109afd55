"""What a worker has the model write behind a prompt."""

from __future__ import annotations

import numpy as np

from raysim.keyed import Purpose, uniform
from raysim.rounds.ranges import Continuation, Evaluated, PromptRange
from raysim.training import Evaluator, continued


def written(part: PromptRange, evaluator: Evaluator, seed: int) -> Evaluated:
    """The text that the evaluator's model writes, of every round with the same random numbers."""
    draws = uniform(seed, Purpose.TEXT, part.prompt, np.arange(part.tokens))
    settings = part.temperature, part.end, evaluator.device
    ids = continued(evaluator.module, evaluator.info, part.ids, draws, *settings)
    return Evaluated("text", np.empty(0), written=Continuation(part.prompt, ids))

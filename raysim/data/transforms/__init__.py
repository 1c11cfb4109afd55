"""Cleaning and preprocessing, in declared order, with statistics of the training part only.

`fit` looks at the training pool and returns a small value of plain numbers; `apply` takes any pool of the same source
(training, validation, test, or new data) to the plain arrays that models see. The fitted value becomes JSON and back
without loss, so it is stored beside the shards. To add a transform, write a file with a step, and a line in `fitting`.
"""

from raysim.data.transforms.categories import refuse_strays
from raysim.data.transforms.fitting import Fitted, apply, describe, fit

__all__ = ["Fitted", "apply", "describe", "fit", "refuse_strays"]

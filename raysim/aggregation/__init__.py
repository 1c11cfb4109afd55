"""Fixed-point records, weightings and server optimisers: pure functions that do not know who computes where."""

from raysim.aggregation.buffers import Buffers
from raysim.aggregation.fixed_point import FixedPoint
from raysim.aggregation.float_sum import FloatSum
from raysim.aggregation.records import Field, PartialSum, RunningSum, column_mean, combine, mean, sum_fields, union
from raysim.aggregation.server_optimizer import ServerAdaptive, ServerSgd
from raysim.aggregation.weights import Weighting

__all__ = [
    "Buffers",
    "Field",
    "FixedPoint",
    "FloatSum",
    "PartialSum",
    "RunningSum",
    "ServerAdaptive",
    "ServerSgd",
    "Weighting",
    "column_mean",
    "combine",
    "mean",
    "sum_fields",
    "union",
]

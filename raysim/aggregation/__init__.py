"""Fixed-point records, weightings and server optimisers: pure functions that do not know who computes where."""

from raysim.aggregation.buffers import Buffers
from raysim.aggregation.fixed_point import FixedPoint
from raysim.aggregation.float_sum import FloatSum
from raysim.aggregation.records import ColumnSums, Field, PartialSum, combine, mean, sum_fields, union
from raysim.aggregation.rows import ClientRows, KeptRows, WeightChooser, join_rows, weighed
from raysim.aggregation.running_sum import RunningSum
from raysim.aggregation.server_optimizer import ServerAdaptive, ServerSgd
from raysim.aggregation.weights import Weighting

__all__ = [
    "Buffers",
    "ClientRows",
    "ColumnSums",
    "Field",
    "FixedPoint",
    "FloatSum",
    "KeptRows",
    "PartialSum",
    "RunningSum",
    "ServerAdaptive",
    "ServerSgd",
    "WeightChooser",
    "Weighting",
    "combine",
    "join_rows",
    "mean",
    "sum_fields",
    "union",
    "weighed",
]

"""Fixed-point records, weightings and server optimisers: pure functions that do not know who computes where."""

from raysim.aggregation.buffers import Buffers
from raysim.aggregation.building import build_rule
from raysim.aggregation.fixed_point import FixedPoint
from raysim.aggregation.float_sum import FloatSum
from raysim.aggregation.learned import WeightChooser
from raysim.aggregation.records import ColumnSums, Field, PartialSum, Record, combine, mean, union
from raysim.aggregation.rows import ClientRows, KeptRows, weighed
from raysim.aggregation.rules import Accumulator, Finished, Rule, ServerView, WeightedMean
from raysim.aggregation.running_sum import RunningSum
from raysim.aggregation.server_optimizer import ServerAdaptive, ServerSgd
from raysim.aggregation.weights import Weighting

__all__ = [
    "Accumulator",
    "Buffers",
    "ClientRows",
    "ColumnSums",
    "Field",
    "Finished",
    "FixedPoint",
    "FloatSum",
    "KeptRows",
    "PartialSum",
    "Record",
    "Rule",
    "RunningSum",
    "ServerAdaptive",
    "ServerSgd",
    "ServerView",
    "WeightChooser",
    "WeightedMean",
    "Weighting",
    "build_rule",
    "combine",
    "mean",
    "union",
    "weighed",
]

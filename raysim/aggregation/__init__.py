"""Fixed-point records, weightings and server optimisers: pure functions that do not know who computes where."""

from raysim.aggregation.buffers import Buffers
from raysim.aggregation.building import PROTECTIONS, STAGES, build_aggregation, build_rule
from raysim.aggregation.chain import Aggregation
from raysim.aggregation.contexts import Bound, IntegerContext, MeanContext, SendContext, Setting
from raysim.aggregation.fixed_point import FixedPoint
from raysim.aggregation.float_sum import FloatSum
from raysim.aggregation.learned import WeightChooser
from raysim.aggregation.mechanism import IntegerNoise, Mechanism
from raysim.aggregation.parts import OF_PARTS, PART, PART_WEIGHTS
from raysim.aggregation.protocol import Ask, Begun, Peers, Question, RoundProtocol, SumOpening
from raysim.aggregation.records import (
    ColumnSums,
    Field,
    FieldMeans,
    NoClients,
    PartialSum,
    Record,
    combine,
    mean,
    nothing,
    union,
)
from raysim.aggregation.rows import ClientRows, KeptRows, weighed
from raysim.aggregation.rules import Accumulator, Finished, Rule, ServerView, WeightedMean
from raysim.aggregation.running_sum import RunningSum
from raysim.aggregation.server_optimizer import ServerAdaptive, ServerSgd
from raysim.aggregation.stages import UpdateStage
from raysim.aggregation.staleness import FULL, Discount, discount_of
from raysim.aggregation.vectors import ClientVector
from raysim.aggregation.weights import Weighting

__all__ = [
    "FULL",
    "OF_PARTS",
    "PART",
    "PART_WEIGHTS",
    "PROTECTIONS",
    "STAGES",
    "Accumulator",
    "Aggregation",
    "Ask",
    "Begun",
    "Bound",
    "Buffers",
    "ClientRows",
    "ClientVector",
    "ColumnSums",
    "Discount",
    "Field",
    "FieldMeans",
    "Finished",
    "FixedPoint",
    "FloatSum",
    "IntegerContext",
    "IntegerNoise",
    "KeptRows",
    "MeanContext",
    "Mechanism",
    "NoClients",
    "PartialSum",
    "Peers",
    "Question",
    "Record",
    "RoundProtocol",
    "Rule",
    "RunningSum",
    "SendContext",
    "ServerAdaptive",
    "ServerSgd",
    "ServerView",
    "Setting",
    "SumOpening",
    "UpdateStage",
    "WeightChooser",
    "WeightedMean",
    "Weighting",
    "build_aggregation",
    "build_rule",
    "combine",
    "discount_of",
    "mean",
    "nothing",
    "union",
    "weighed",
]

"""How clients train: the flat parameter layout, losses, metrics, optimisers on rows, engines. Knows no server."""

from raysim.training.activations import activation_bytes
from raysim.training.balance import BalancedLoss, resolve_client_loss
from raysim.training.batches import Batch, BatchPlan, LocalWork, Shard, Shards
from raysim.training.building import EngineChoice, EngineName, build_engine
from raysim.training.capture import CannotCapture
from raysim.training.clients import Clients
from raysim.training.codes import LocalUpdate
from raysim.training.compiled_correction import VectorSizes
from raysim.training.engine import Block, Engine, UnprotectedError
from raysim.training.evaluator import Evaluator, ExactSums, add_exact, merge_exact
from raysim.training.examples import ExamplePrivacy, poisson_rates
from raysim.training.features import FeatureLoss
from raysim.training.fine_tuning import FineTuner
from raysim.training.groups import clip_of, column_rates
from raysim.training.handed import NOTHING, HandedOver
from raysim.training.inputs import BlockInputs, Correction, RoundSetting, Some
from raysim.training.layout import LayoutPart, ParameterLayout, Segment
from raysim.training.length_groups import LengthGroups
from raysim.training.listening import Heard, listen
from raysim.training.losses import ClientLoss, Loss, check_loss, resolve_loss
from raysim.training.metrics import Metric, check_metrics, evaluated_metrics, resolve_metrics, values_of
from raysim.training.optimizers import RowOptimizer, row_optimizer
from raysim.training.resampling import Resampling
from raysim.training.schedules import round_rates
from raysim.training.sequential import Saving, SequentialEngine
from raysim.training.step import Means, Step
from raysim.training.threads import torch_threads
from raysim.training.trainer import BlockResult, Program, Trainer
from raysim.training.transfer import copied, copy_into, to_device
from raysim.training.writing import continued

__all__ = [
    "NOTHING",
    "BalancedLoss",
    "Batch",
    "BatchPlan",
    "Block",
    "BlockInputs",
    "BlockResult",
    "CannotCapture",
    "ClientLoss",
    "Clients",
    "Correction",
    "Engine",
    "EngineChoice",
    "EngineName",
    "Evaluator",
    "ExactSums",
    "ExamplePrivacy",
    "FeatureLoss",
    "FineTuner",
    "HandedOver",
    "Heard",
    "LayoutPart",
    "LengthGroups",
    "LocalUpdate",
    "LocalWork",
    "Loss",
    "Means",
    "Metric",
    "ParameterLayout",
    "Program",
    "Resampling",
    "RoundSetting",
    "RowOptimizer",
    "Saving",
    "Segment",
    "SequentialEngine",
    "Shard",
    "Shards",
    "Some",
    "Step",
    "Trainer",
    "UnprotectedError",
    "VectorSizes",
    "activation_bytes",
    "add_exact",
    "build_engine",
    "check_loss",
    "check_metrics",
    "clip_of",
    "column_rates",
    "continued",
    "copied",
    "copy_into",
    "evaluated_metrics",
    "listen",
    "merge_exact",
    "poisson_rates",
    "resolve_client_loss",
    "resolve_loss",
    "resolve_metrics",
    "round_rates",
    "row_optimizer",
    "to_device",
    "torch_threads",
    "values_of",
]

"""The executor's contract, leases, scheduling, and the executor without Ray. Knows nothing of Ray."""

from raysim.execution.cohort import draw_cohort, draw_round
from raysim.execution.environment import bits_fingerprint, environment
from raysim.execution.evaluation import EvaluationPlan, own_metrics, spread, summarise
from raysim.execution.executor import Executor
from raysim.execution.facts import CohortFacts, cohort_facts, nobody, round_row
from raysim.execution.inprocess import InProcessExecutor
from raysim.execution.placement import ACTOR_BYTES, Placement, place
from raysim.execution.preparation import Prepared, prepare_job
from raysim.execution.scheduling import CostModel, Schedule, schedule, schedule_by_owner
from raysim.execution.selection import Selection, build_selection
from raysim.execution.server import Server
from raysim.execution.slots import Node
from raysim.execution.work import (
    Applied,
    ClientRange,
    Evaluated,
    EvaluationRange,
    Job,
    Lease,
    LeaseReport,
    RoundDone,
    RoundFacts,
    RoundTask,
    RoundWork,
    ServerHandle,
    ServerRange,
    Trained,
)
from raysim.execution.worker import ClientWorker

__all__ = [
    "ACTOR_BYTES",
    "Applied",
    "ClientRange",
    "ClientWorker",
    "CohortFacts",
    "CostModel",
    "Evaluated",
    "EvaluationPlan",
    "EvaluationRange",
    "Executor",
    "InProcessExecutor",
    "Job",
    "Lease",
    "LeaseReport",
    "Node",
    "Placement",
    "Prepared",
    "RoundDone",
    "RoundFacts",
    "RoundTask",
    "RoundWork",
    "Schedule",
    "Selection",
    "Server",
    "ServerHandle",
    "ServerRange",
    "Trained",
    "bits_fingerprint",
    "build_selection",
    "cohort_facts",
    "draw_cohort",
    "draw_round",
    "environment",
    "nobody",
    "own_metrics",
    "place",
    "prepare_job",
    "round_row",
    "schedule",
    "schedule_by_owner",
    "spread",
    "summarise",
]

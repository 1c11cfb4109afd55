"""What a run leaves behind and says on the way: its directory, tables, checkpoints, log, observers and report."""

from raysim.tracking.checkpoints import Checkpoint, CheckpointFolder, Damaged
from raysim.tracking.confusion import Confusion, read_confusion
from raysim.tracking.directory import RunDirectory
from raysim.tracking.evidence import Evidence, read_evidence, write_evidence
from raysim.tracking.generated import GeneratedText, read_generated
from raysim.tracking.headline import OVER_CLIENTS, ClientSet, headline_metric, improves, measure, smaller_is_better
from raysim.tracking.holdings import Holdings, read_holdings, write_holdings
from raysim.tracking.holdouts import ClientMetrics, read_holdouts
from raysim.tracking.log import FINISHED, STARTED, EventLog, read_events
from raysim.tracking.observers import (
    Fanout,
    NotebookObserver,
    NoteLevel,
    Observer,
    Observing,
    QuietObserver,
    open_observers,
)
from raysim.tracking.past import PastRun, PastRuns, past_run, past_runs
from raysim.tracking.places import CheckpointPlace
from raysim.tracking.reading import read_clients, read_rounds
from raysim.tracking.recorder import Recorder
from raysim.tracking.report import write_report
from raysim.tracking.report.result_table import ResultTable
from raysim.tracking.stopping import Stopping
from raysim.tracking.tables import RunTables
from raysim.tracking.vacancy import is_vacant

__all__ = [
    "FINISHED",
    "OVER_CLIENTS",
    "STARTED",
    "Checkpoint",
    "CheckpointFolder",
    "CheckpointPlace",
    "ClientMetrics",
    "ClientSet",
    "Confusion",
    "Damaged",
    "EventLog",
    "Evidence",
    "Fanout",
    "GeneratedText",
    "Holdings",
    "NoteLevel",
    "NotebookObserver",
    "Observer",
    "Observing",
    "PastRun",
    "PastRuns",
    "QuietObserver",
    "Recorder",
    "ResultTable",
    "RunDirectory",
    "RunTables",
    "Stopping",
    "headline_metric",
    "improves",
    "is_vacant",
    "measure",
    "open_observers",
    "past_run",
    "past_runs",
    "read_clients",
    "read_confusion",
    "read_events",
    "read_evidence",
    "read_generated",
    "read_holdings",
    "read_holdouts",
    "read_rounds",
    "smaller_is_better",
    "write_evidence",
    "write_holdings",
    "write_report",
]

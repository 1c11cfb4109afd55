"""Privacy: stages that clip and add noise, what they cost, secure aggregation, homomorphic encryption, attacks."""

from raysim.aggregation.mechanism import Adds, IntegerNoise, Mechanism, MechanismKind
from raysim.privacy.accountants import require_dp_accounting
from raysim.privacy.accounting import Accountant, EpsilonCurve, ExampleReleases, PrivacyAccount
from raysim.privacy.audit import MechanismAudit, audit_mechanism
from raysim.privacy.calibration import calibrated
from raysim.privacy.deriving import account_for, account_for_examples, default_delta
from raysim.privacy.gaussian import gaussian_epsilon
from raysim.privacy.plan import PrivacyPlan
from raysim.privacy.sampling import Adjacency, Recurrence, Sampling, SamplingKind, StepSchedule, sampling_of

__all__ = [
    "Accountant",
    "Adds",
    "Adjacency",
    "EpsilonCurve",
    "ExampleReleases",
    "IntegerNoise",
    "Mechanism",
    "MechanismAudit",
    "MechanismKind",
    "PrivacyAccount",
    "PrivacyPlan",
    "Recurrence",
    "Sampling",
    "SamplingKind",
    "StepSchedule",
    "account_for",
    "account_for_examples",
    "audit_mechanism",
    "calibrated",
    "default_delta",
    "gaussian_epsilon",
    "require_dp_accounting",
    "sampling_of",
]

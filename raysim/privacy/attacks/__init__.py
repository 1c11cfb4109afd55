"""What an update, or a model, gives away of the samples behind it: gradient inversion, membership inference."""

from raysim.privacy.attacks.inversion import (
    Inversion,
    Matching,
    counted_labels,
    inputs_of_linear,
    invert,
    matched,
)
from raysim.privacy.attacks.membership import (
    Membership,
    advantage_bound,
    auc_interval,
    epsilon_lower_bound,
    likelihood_ratios,
    membership,
)

__all__ = [
    "Inversion",
    "Matching",
    "Membership",
    "advantage_bound",
    "auc_interval",
    "counted_labels",
    "epsilon_lower_bound",
    "inputs_of_linear",
    "invert",
    "likelihood_ratios",
    "matched",
    "membership",
]

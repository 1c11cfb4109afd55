"""Optuna studies over simulations: what is varied, what is sought, where trials run. The only room that imports Optuna.

A study is a plain Optuna study, and every trial of it a plain run of the experiment with some keys changed.
"""

from raysim.tuning.tuned import Tuned, tune

__all__ = ["Tuned", "tune"]

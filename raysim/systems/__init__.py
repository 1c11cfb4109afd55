"""Devices and timetables in virtual time: who computes how fast, who is there when, and when the server takes a step.

Everything is a function of the configuration, the seed and the client. No clock is read, and nothing is trained.
"""

from __future__ import annotations

from raysim.systems.availability import AvailabilityWindows, build_windows
from raysim.systems.fleet import Fleet, Trips, build_fleet
from raysim.systems.forecast import Forecast, forecast
from raysim.systems.load import Load
from raysim.systems.recording import VirtualClock, recorded_names, utilisation
from raysim.systems.timetables import Buffered, EdgeRounds, FleetTimetable, Rounds, TimedStep
from raysim.systems.traces import trace_bits

__all__ = [
    "AvailabilityWindows",
    "Buffered",
    "EdgeRounds",
    "Fleet",
    "FleetTimetable",
    "Forecast",
    "Load",
    "Rounds",
    "TimedStep",
    "Trips",
    "VirtualClock",
    "build_fleet",
    "build_windows",
    "forecast",
    "recorded_names",
    "trace_bits",
    "utilisation",
]

"""Timetables: who contributes to which step of the server, and when, in virtual time."""

from __future__ import annotations

from raysim.systems.timetables.buffered import Buffered
from raysim.systems.timetables.edges import EdgeRounds
from raysim.systems.timetables.rounds import Rounds
from raysim.systems.timetables.timed import FleetTimetable, TimedStep

__all__ = ["Buffered", "EdgeRounds", "FleetTimetable", "Rounds", "TimedStep"]

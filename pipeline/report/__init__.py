"""One page per run: who wins, and what the noise did to it."""

from __future__ import annotations

from pipeline.report.leaderboard import leaderboard, write_leaderboard
from pipeline.report.page import write_report

__all__ = ["leaderboard", "write_leaderboard", "write_report"]

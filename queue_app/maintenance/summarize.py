"""Summarize: the search index of jobs knows what is new, and forgets what is gone."""

from __future__ import annotations

from queue_app.maintenance.duty import Duty, LeaderTerm
from queue_app.models import summaries
from queue_app.models.sql import write_connection


def run(term: LeaderTerm) -> int:
    """Keep up the index.

    Returns:
        How many summaries were made.
    """
    term.check()
    return summaries.refresh(write_connection())


SUMMARIZE = Duty("summarize", 60.0, run, "keeps up the index with which old jobs are searched for")

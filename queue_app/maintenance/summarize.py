"""Keeps the search index of jobs up to date."""

from __future__ import annotations

from queue_app.maintenance.duty import Duty
from queue_app.maintenance.leader_term import LeaderTerm
from queue_app.models import summaries
from queue_app.models.sql import write_connection


class Summarize(Duty):
    """Adds new jobs to the index, and removes jobs that are gone."""

    name = "summarize"
    interval = 60.0
    doc = "keeps up the index with which old jobs are searched for"

    def run(self, term: LeaderTerm) -> int:
        """Update the index.

        Returns:
            How many summaries were made.
        """
        term.check()
        return summaries.refresh(write_connection())

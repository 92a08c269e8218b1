"""Dead letters: why jobs will not be tried again by themselves, and their replay."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import mark_safe

from queue_app.admin.base import RecordAdmin, selected_pks, show_outages, show_result
from queue_app.admin.display import error_line, link, link_to_list
from queue_app.admin.filters import AgeFilter, FingerprintFilter, QueueFilter, ReplayedFilter, TaskFilter
from queue_app.admin.reasons import reason_of
from queue_app.models import Attempt, DeadLetter, Job
from queue_app.operations import dead_letters
from queue_app.operations.actor import Actor
from queue_app.queries import selection

#: Deaths that a page shows, the latest of them.
MAX_ATTEMPTS_SHOWN = 20


@admin.register(DeadLetter)
class DeadLetterAdmin(RecordAdmin):
    """Read-only rows; the replay is the verb of `operations`."""

    actions = ("replay_letters",)
    list_display = (
        "id",
        "task",
        "queue",
        "reason",
        "attempts",
        error_line,
        "fingerprint_link",
        "created_at",
        "replayed_at",
    )
    list_filter = (ReplayedFilter, "reason", QueueFilter, TaskFilter, FingerprintFilter, AgeFilter)
    search_help_text = "The id of the dead letter or of its job, or the beginning of a task's name."
    text_field = "task"
    fields = (
        "id",
        "job_link",
        "task",
        "queue",
        "reason",
        "error_class",
        "error",
        "deaths",
        "fingerprint_link",
        "attempts",
        "attempts_link",
        "created_at",
        "replayed_at",
    )
    readonly_fields = fields

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[DeadLetter], search_term: str
    ) -> tuple[QuerySet[DeadLetter], bool]:
        """Also by the job's id."""
        if (own := selection.id_starts_with(search_term)) is None:
            return super().get_search_results(request, queryset, search_term)
        pks = self.matching(request, own, "pk")
        if (of_job := selection.id_starts_with(search_term, "job_id")) is not None:
            pks += self.matching(request, of_job, "job_id")
        return queryset.filter(pk__in=pks), False

    @admin.display(description="Job")
    def job_link(self, letter: DeadLetter) -> str:
        return link(Job, letter.job_id)

    @admin.display(description="Fingerprint")
    def fingerprint_link(self, letter: DeadLetter) -> str:
        """A link to all dead letters with the same fingerprint."""
        if not letter.fingerprint:
            return ""
        return link_to_list(DeadLetter, f"fingerprint={letter.fingerprint}", letter.fingerprint)

    @admin.display(description="Deaths of its process", empty_value="none")
    def deaths(self, letter: DeadLetter) -> str:
        return format_html_join(
            mark_safe("<br>"),
            "attempt {}: {}",
            ((death.number, death.error) for death in letter.deaths()[:MAX_ATTEMPTS_SHOWN]),
        )

    @admin.display(description="History")
    def attempts_link(self, letter: DeadLetter) -> str:
        return link_to_list(Attempt, f"q={letter.job_id}", "Attempts of the job, with their tracebacks")

    @admin.action(description="Replay selected dead letters", permissions=["replay"])
    def replay_letters(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> None:
        with show_outages(request):
            pks = selected_pks(request, queryset)
            answer = dead_letters.replay(Actor.of_request(request), pks, reason=reason_of(request))
            missed = ["They were replayed before, or their job is no longer failed."] * (
                len(pks) - len(answer.done)
            )
            show_result(request, len(answer.done), "replayed", missed)

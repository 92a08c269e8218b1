"""What happens in the queue, as Django signals. `observability.log` writes them as log lines; projects may listen.

They are sent with `send_robust`: a failing receiver is logged, and no job is lost.
"""

from __future__ import annotations

from django.dispatch import Signal

#: After the rows were written, inside the caller's transaction. `ids`, `queue`.
jobs_enqueued = Signal()
#: An attempt begins in this process. `delivery`, `worker_id`.
attempt_started = Signal()
#: Outcomes of attempts are committed, all those of one group. `outcomes`, `worker_id`.
attempts_finished = Signal()
#: Outcomes came from deliveries that the record no longer expects. `outcomes`, `worker_id`.
outcomes_refused = Signal()
#: A job went to the dead letters. `job_id`, `task`, `reason`, `error`.
dead_lettered = Signal()
#: Jobs of a dead child or worker were taken back. `worker_id`, `lost` (ids), `returned` (ids), `cause`.
jobs_recovered = Signal()
#: A store went away or came back. `store` ("redis" or "database"), `error` / `downtime` (seconds).
store_lost = Signal()
store_returned = Signal()
#: Worker processes. `worker_id`, and `child`, `cause` where there is one.
worker_started = Signal()
worker_stopped = Signal()
child_died = Signal()
#: A schedule's ticks cannot be enqueued, for a reason that is new. `schedule` (its name), `error`.
schedule_failed = Signal()
#: A schedule is about to be written with its task. `schedule`; `scheduling` fills in its `task_options`.
schedule_task_written = Signal()
#: An operator's verb was carried out. `verb`, `user`, `count`, `filter`.
operated = Signal()

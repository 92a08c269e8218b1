"""All duties, in the order in which a leader does them."""

from __future__ import annotations

from queue_app.maintenance.duty import Duty
from queue_app.maintenance.enqueue_ticks import EnqueueTicks
from queue_app.maintenance.load_due import LoadDue
from queue_app.maintenance.promote_due import PromoteDue
from queue_app.maintenance.prune_record import PruneRecord
from queue_app.maintenance.reap_workers import ReapWorkers
from queue_app.maintenance.rebuild_redis import RebuildRedis
from queue_app.maintenance.recover_orphans import RecoverOrphans
from queue_app.maintenance.retry_cancels import RetryCancels
from queue_app.maintenance.sample_queues import SampleQueues
from queue_app.maintenance.summarize import Summarize
from queue_app.maintenance.sweep_new import SweepNew
from queue_app.maintenance.verify_redis import VerifyRedis
from queue_app.maintenance.walk_backlog import WalkBacklog

DUTIES: tuple[type[Duty], ...] = (
    RebuildRedis,  # before anything is loaded or pushed
    ReapWorkers,
    RetryCancels,
    EnqueueTicks,
    LoadDue,
    PromoteDue,
    SweepNew,
    WalkBacklog,
    RecoverOrphans,
    VerifyRedis,
    SampleQueues,
    PruneRecord,
    Summarize,
)

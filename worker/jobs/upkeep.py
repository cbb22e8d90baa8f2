"""Repairs jobs as part of the sweep: lost wake-ups, unsent events, and jobs whose command died."""

from worker.errors import WorkerLost
from worker.jobs.job import TASKS, UNFINISHED, Job
from worker.jobs.store import Jobs
from worker.service import Service
from worker.stores.connections import store_errors
from worker.stores.wakeups import Queues


class JobUpkeep:
    """Repairs jobs. Any number may run at once. Its methods raise TransientError."""

    def __init__(self, service: Service) -> None:
        self._jobs = Jobs(service)
        self._queues = Queues(service.connections)
        self._lost_after = service.settings.lost_after

    def __call__(self) -> None:
        """Enqueue jobs whose slice died or whose message was lost, and emit the events that were not emitted yet."""
        for queue in sorted({queue for _, queue in TASKS.values()}):
            now = self._jobs.service.clock.now()
            if lost_before := self._queues.lost_before(queue, now, self._lost_after):
                for job in self._jobs.take_lost(queue, lost_before):
                    self._jobs.enqueue(job)
        self._fail_abandoned()
        self._jobs.emit_unsent({})

    def _fail_abandoned(self) -> None:
        """Fail jobs of commands that were killed: no worker can continue them, because their files are elsewhere."""
        recent = {"$gt": self._jobs.service.clock.now() - self._jobs.lease}
        # Without a lease, the command is about to claim the job, or was killed before it could.
        silent = {"leasedUntil": {"$not": recent}, "enqueuedAt": {"$not": recent}}
        abandoned = {"status": {"$in": UNFINISHED}, "local": True, **silent}
        with store_errors():
            found = [Job.read(each) for each in self._jobs.collection.find(abandoned).limit(100)]
        for job in found:
            if claimed := self._jobs.claim(job.id, "sweep", local=True):
                self._jobs.fail(claimed, _killed(job))


def _killed(job: Job) -> WorkerLost:
    """Return the error of a job whose command was killed. An export may have given its files their names just before.

    The files cannot be looked up: they may be on another host.
    """
    progress = job.progress or {}
    if job.kind == "export" and progress.get("phase") == "write" and progress["written"] == progress["selected"]:
        return WorkerLost(
            "The command that ran this export was killed after it had written all files. If its folder exists, its"
            " files are complete: check them with `snapshots exports verify FOLDER`.",
            mayBeComplete=True,
        )
    return WorkerLost("The command that ran this job was killed. Run the command again.")

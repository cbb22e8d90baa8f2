"""The work of an erasure job: remove, wait, search everything, and sign the receipt."""

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from worker.clock import to_json
from worker.erasure.broker import Broker
from worker.erasure.files import Files
from worker.erasure.identifiers import Identifiers
from worker.erasure.mentions import Mentions
from worker.erasure.receipt import VERSION, sign, signing_key
from worker.erasure.records import IDS, Records
from worker.erasure.search import Search
from worker.errors import PermanentError
from worker.jobs.job import Job
from worker.jobs.slices import Slice
from worker.jobs.store import Jobs
from worker.stores.connections import store_errors

_ROUNDS = 50
"""The job fails after this many searches that still find something."""
_LONGEST_PAUSE = timedelta(seconds=10)


class ErasureIncomplete(PermanentError):
    """Each search found new data of the person. Stop the program that writes it, and request the erasure again."""

    code = "erasure_incomplete"


class Erasure:
    """Works on the slices of erasure jobs: see `worker.jobs.slices.Work`.

    tombstone ─▶ requests in flight ─▶ records ─▶ mentions ─▶ Redis ─▶ export files ─▶ settle ─▶ search ─▶ receipt
                                          ▲                                                        │
                                          └──────────────────── something found ───────────────────┘
    """

    def __init__(self, jobs: Jobs, settle: timedelta | None = None, *, only_records: bool = False) -> None:
        """`settle`: how long work that began before the tombstone may still run: longer than a task's hard time limit.

        `only_records`: stop after the step `records` and leave the others to another process.
        """
        self._only_records = only_records
        self._jobs = jobs
        self._service = jobs.service
        self._settle = jobs.lease if settle is None else settle

    def __call__(self, job_slice: Slice) -> Mapping[str, Any] | None:
        """Continue a job; return its result, the receipt, once a search finds nothing any more.

        Raises ErasureIncomplete, InvalidSettings, DestinationFailed and all TransientErrors.
        """
        key = None if self._only_records else signing_key(self._service.settings)
        person = Identifiers.read(job_slice.job.organization, job_slice.checkpoint)
        steps: dict[str, Callable[[Slice, Identifiers], bool]] = {
            "records": self._remove_records,
            "mentions": self._redact_mentions,
            "redis": self._search_redis,
            "files": self._remove_files,
            "settle": self._wait,
            "search": self._search,
        }
        job_slice.pause = None
        while not job_slice.is_over:
            phase = job_slice.checkpoint["phase"]
            if key is None and phase != "records":
                break
            if not steps[phase](job_slice, person):
                break
            names = list(steps)
            following = names[names.index(phase) + 1 :]
            if following:
                job_slice.checkpoint["phase"] = following[0]
            elif job_slice.checkpoint["found"]:
                self._begin_again(job_slice)
            elif key:
                return {"receipt": sign(self._receipt(job_slice), key)}
            job_slice.progress = {
                "phase": job_slice.checkpoint["phase"],
                "removed": dict(job_slice.checkpoint["removed"]),
            }
            job_slice.save()
        job_slice.save()
        return None

    def clean_up(self, job: Job) -> None:
        """Keep the ids of snapshots that files of exports may still have; the contact's next erasure needs them.

        The checkpoint is removed with the identifiers in it, and the tombstone stays.
        """
        if left := {name: ids for name in IDS if (ids := (job.checkpoint or {}).get(name))}:
            with store_errors():
                self._jobs.collection.update_one({"_id": job.id}, {"$set": {"left": left}})

    def _begin_again(self, job_slice: Slice) -> None:
        job_slice.checkpoint["rounds"] += 1
        if job_slice.checkpoint["rounds"] > _ROUNDS:
            raise ErasureIncomplete(found=dict(job_slice.checkpoint["found"]))
        removed = Counter[str](job_slice.checkpoint["removed"])
        found = job_slice.checkpoint["found"].items()
        removed.update({place: count for place, count in found if place.startswith("redis:")})  # the search removes it
        again = {"removed": dict(removed), "found": {}, "mentions": {}, "others": {}}
        job_slice.checkpoint |= {"phase": "records", **again}

    # --- the steps: each returns whether it is done ----------------------------------------------------------

    def _remove_records(self, job_slice: Slice, person: Identifiers) -> bool:
        records = Records(self._service, job_slice, person)
        removed = Counter[str](job_slice.checkpoint["removed"])
        removed["requests in flight"] += records.fail_open()
        done = records.remove(removed)
        job_slice.checkpoint["removed"] = dict(removed)
        job_slice.checkpoint["removedAt"] = self._service.clock.now()
        return done

    def _redact_mentions(self, job_slice: Slice, person: Identifiers) -> bool:
        if not job_slice.job.spec.get("redactMentions") or not person.texts:
            return True
        done = Mentions(self._service, job_slice, person).redact()
        job_slice.checkpoint["removedAt"] = self._service.clock.now()
        return done

    def _search_redis(self, job_slice: Slice, person: Identifiers) -> bool:
        removed = Counter[str](job_slice.checkpoint["removed"])
        done = Broker(self._service, job_slice, person).search(removed)
        job_slice.checkpoint["removed"] = dict(removed)
        return done

    def _remove_files(self, job_slice: Slice, person: Identifiers) -> bool:
        removed = Counter[str](job_slice.checkpoint["removed"])
        elsewhere = removed.pop("exports elsewhere", 0) if "export" in job_slice.checkpoint else 0
        removed["exports elsewhere"] = elsewhere
        done = Files(self._jobs, job_slice, person, reason="erased").remove(removed)
        job_slice.checkpoint["removed"] = dict(removed)
        return done

    def _wait(self, job_slice: Slice, _: Identifiers) -> bool:
        """Wait until every run has ended that may have read data before it was removed."""
        left = job_slice.checkpoint["removedAt"] + self._settle - self._service.clock.now()
        if left <= timedelta(0):
            return True
        job_slice.pause = min(left, _LONGEST_PAUSE)
        return False

    def _search(self, job_slice: Slice, person: Identifiers) -> bool:
        """Search all collections and all keys in Redis once more. Items found in Redis are removed immediately."""
        state = job_slice.checkpoint
        found, mentions = Counter[str](state["found"]), Counter[str](state["mentions"])
        others = Counter[str](state["others"])
        done = state.get("searched") or Search(self._service, job_slice, person)(found, mentions)
        if done:
            state["searched"] = True
            done = Broker(self._service, job_slice, person).search(found, others)
        if done:
            del state["searched"]
            if left := Records(self._service, job_slice, person).left():
                found["requests"] += left
        state |= {"found": dict(found), "mentions": dict(mentions), "others": dict(others)}
        return bool(done)

    # --- the receipt ----------------------------------------------------------------------------------------

    def _receipt(self, job_slice: Slice) -> dict[str, Any]:
        now = self._service.clock.now()
        kept = self._service.settings.backup_horizon
        redacted = dict(sorted(job_slice.checkpoint.get("redacted", {}).items()))
        return {
            "receiptVersion": VERSION,
            "erasureId": str(job_slice.job.id),
            "organizationId": str(job_slice.job.organization),
            "subject": job_slice.job.spec["subject"],
            "acceptedAt": to_json(job_slice.job.accepted_at),
            "verifiedAt": to_json(now),
            "removed": {place: count for place, count in sorted(job_slice.checkpoint["removed"].items()) if count},
            "mentions": dict(sorted(job_slice.checkpoint["mentions"].items())),
            **({"mentionsRedacted": redacted} if job_slice.job.spec.get("redactMentions") else {}),
            "otherKeys": dict(sorted(job_slice.checkpoint["others"].items())),
            "backupsUntil": to_json(now + kept),
        }

"""The work of an export job: select, write, publish."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from worker.errors import PermanentError
from worker.exports.destination import Destination, DestinationFailed, is_of
from worker.exports.freezing import Freezing, shards_in_order
from worker.exports.manifest import (
    NAME,
    Layout,
    dataset_of,
    encode,
    extra_files,
    manifest_of,
    plan_files,
    recorded_files,
)
from worker.exports.selection import Selection
from worker.exports.spec import ExportSpec, read_spec
from worker.exports.split import Splitter, merge
from worker.exports.writing import Part, PartWriter
from worker.formats.dataset import File
from worker.jobs.job import Job
from worker.jobs.slices import Slice
from worker.service import Service


class NothingRepresentable(PermanentError):
    """The format can represent none of the selected snapshots."""

    code = "nothing_representable"


OpenDestination = Callable[[Job], Destination]


class Export:
    """Works on the slices of export jobs: see `worker.jobs.slices.Work`."""

    def __init__(self, service: Service, open_destination: OpenDestination) -> None:
        self._service = service
        self._open_destination = open_destination

    @property
    def _key(self) -> str:
        key = self._service.settings.exports_split_key
        return key.get_secret_value() if key else ""

    def __call__(self, job_slice: Slice) -> Mapping[str, Any] | None:
        """Continue a job; return its result once its files have their final names.

        Raises EmptySelection, NothingRepresentable, DestinationFailed and all TransientErrors.
        """
        spec = read_spec(job_slice.job.spec, self._service.settings)
        selection = Selection(self._service.connections, job_slice.job.id)
        destination = self._open_destination(job_slice.job)
        if job_slice.checkpoint.get("phase", "select") == "select":
            if not Freezing(self._service, job_slice, spec, selection, self._key)():
                return None
            job_slice.checkpoint["phase"] = "write"
            self._report(job_slice, [])
            job_slice.save()
        parts = self._write(job_slice, spec, selection, destination)
        if parts is None:
            return None
        result = self._publish(job_slice, spec, parts, destination)
        if result is None:
            return None
        selection.remove()
        destination.remove_staging()
        return result

    def clean_up(self, job: Job) -> None:
        """Remove the selection and all files of a failed or cancelled job.

        Raises TransientError and DestinationFailed.
        """
        Selection(self._service.connections, job.id).remove()
        self._open_destination(job).remove()

    def _write(
        self, job_slice: Slice, spec: ExportSpec, selection: Selection, destination: Destination
    ) -> list[Part] | None:
        """Write the remaining shards; return all parts, or None if the slice ended before."""
        state = job_slice.checkpoint
        parts = [Part(**each) for each in state["parts"]]
        writer = PartWriter(self._service, job_slice.job.organization, spec, destination)
        left = shards_in_order(state["shards"])[len(parts) :]
        place = f"slice-{job_slice.job.fence}"
        if left:
            destination.begin(place)
        for side, number, _ in left:
            if job_slice.is_over:
                return None
            part = writer.write(side, number, place, selection.shard(side, number))
            parts.append(part)
            state["parts"].append(asdict(part))
            self._report(job_slice, parts)
            job_slice.save()
        return parts

    def _report(self, job_slice: Slice, parts: list[Part]) -> None:
        job_slice.progress = {
            "phase": "write",
            "selected": job_slice.checkpoint["counts"]["selected"],
            "written": sum(part.snapshots + sum(part.skipped.values()) for part in parts),
            "rows": sum(part.rows for part in parts),
        }

    def _publish(
        self, job_slice: Slice, spec: ExportSpec, parts: list[Part], destination: Destination
    ) -> Mapping[str, Any] | None:
        """Publish the files and return the job's result; None if the export has to begin again."""
        layout = plan_files(spec, parts, job_slice.checkpoint["shards"])
        if not any(part.rows for part in parts):
            counts: dict[str, int] = {}
            for part in parts:
                merge(counts, part.skipped)
            listed = ", ".join(f"{name} ({count})" for name, count in counts.items())
            raise NothingRepresentable(f"{NothingRepresentable.__doc__} Reasons: {listed}.", skipped=counts)
        job, moment = job_slice.job, job_slice.checkpoint["moment"]
        files = ((part.split, File(path, part.rows, part.bytes, part.sha256)) for path, part in layout.data)
        extra = extra_files(dataset_of(job.id, spec, moment, files), spec.training_format)
        fingerprint = Splitter(job.organization, self._key, None, {}).fingerprint
        manifest = manifest_of(job.id, job.organization, spec, job_slice.checkpoint, layout, extra, fingerprint)
        found = destination.manifest()
        if found is None:
            job_slice.check()
            try:
                self._put_in_place(job_slice, destination, layout, {**extra, NAME: encode(manifest)})
            except DestinationFailed:
                # A slice that has lost its lease may have published the same files just before.
                if not is_of(destination.manifest(), job.id, manifest["moment"]):
                    raise
        elif not is_of(found, job.id):
            raise DestinationFailed(f"The destination {destination.where} has the files of another export.")
        elif not is_of(found, job.id, manifest["moment"]):
            # An erasure has let this export begin again, and a slice from before has published nevertheless.
            destination.remove()
            job_slice.checkpoint = {}
            job_slice.save()
            return None
        return {
            "format": spec.format,
            "moment": manifest["moment"],
            "counts": manifest["counts"],
            "splits": manifest["splits"],
            "files": recorded_files(manifest["files"]),
        }

    def _put_in_place(
        self, job_slice: Slice, destination: Destination, layout: Layout, contents: Mapping[str, bytes]
    ) -> None:
        place = f"publish-{job_slice.job.fence}"
        destination.begin(place)
        staged = {path: part.data for path, part in layout.data} | {path: part.ids for path, part in layout.ids}
        for number, (path, data) in enumerate(contents.items()):
            with destination.create(place, f"extra-{number}") as file:
                file.write(data)
            staged[path] = f"{place}/extra-{number}"
        destination.publish(staged, place)

"""The list of exports or backfills, the page of one, and a page that asks whether to cancel or delete it."""

from fastapi import Response
from fastapi.responses import RedirectResponse

from worker.jobs.job import Job
from worker.jobs.store import JobFilter, Jobs
from worker.log import get_logger
from worker.operations.data.jobs import ACTIONS, KINDS, end, find, shown
from worker.operations.web.endpoint import PageRequest
from worker.operations.web.forms import invalid, object_id
from worker.operations.web.rendering import HEADERS
from worker.operations.web.session import ROOT

log = get_logger(__name__)

PAGE_SIZE = 25
_REFRESH_SECONDS = 3


async def show_list(request: PageRequest) -> Response:
    """List jobs of one kind, newest first."""
    given = request.form["kind"] or "export"
    kind = next((each for each in KINDS if each == given), None)
    if kind is None:
        raise invalid("kind", f"should be {' or '.join(KINDS)}")
    organization = object_id("organization", request.form["organization"]) if request.form["organization"] else None
    after = object_id("after", request.form["after"]) if request.form["after"] else None
    which = JobFilter(request.viewer.restrict(organization), kind)
    found = await request.read(Jobs(request.backend.service).list, which, PAGE_SIZE + 1, after)
    listed = found[:PAGE_SIZE]
    return request.render(
        "jobs",
        kind=kind,
        kinds=KINDS,
        organization=organization,
        jobs=[shown(job) for job in listed],
        cursor=listed[-1].id if len(found) > PAGE_SIZE else None,
        is_first_page=after is None,
    )


async def show_one(request: PageRequest) -> Response:
    """Show one job, and refresh while it is in progress. Raises NotFound, including for another organization's."""
    job = await _find(request)
    files = (job.result or {}).get("files", ())
    splits = (job.result or {}).get("splits", {})
    return request.render(
        "job",
        shown=shown(job),
        job=job,
        kinds=KINDS,
        files=files,
        splits=splits,
        refresh=None if job.is_finished else _REFRESH_SECONDS,
    )


async def confirm(request: PageRequest) -> Response:
    """Ask for confirmation."""
    job = await _find(request)
    return request.render("end_job", job=job, action=shown(job).action)


async def finish(request: PageRequest) -> Response:
    """Cancel or delete the job."""
    action = next((each for each in ACTIONS if each == request.form["action"]), None)
    if action is None:
        raise invalid("action", f"should be {' or '.join(ACTIONS)}")
    backend, key = request.backend, request.id
    await backend.change(request.organization, end, backend.service, key, request.viewer.organization, action)
    log.info("operator_ended_job", job=str(key), action=action, user_id=str(request.viewer.caller.user))
    path = f"{ROOT}/jobs" if action == "delete" else f"{ROOT}/jobs/{key}"
    return RedirectResponse(path, 303, HEADERS)


async def _find(request: PageRequest) -> Job:
    return await request.read(find, Jobs(request.backend.service), request.id, request.viewer.organization)

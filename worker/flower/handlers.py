"""Flower's pages with our additions: the Retry button, links to requests, and search by the ledger's fields."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

from flower.api.tasks import ListTasks
from flower.urls import settings as flower_settings
from flower.utils.search import QuerySyntaxError
from flower.utils.tasks import get_task_by_id
from flower.views import BaseHandler
from flower.views.tasks import TasksDataTable, TasksView, TaskView
from tornado.template import Loader, Template
from tornado.web import HTTPError, RequestHandler, StaticFileHandler, authenticated, url

from worker.errors import TransientError
from worker.flower.labels import SEARCHABLE, Labels, read_labels
from worker.flower.login import basic_name
from worker.flower.retry import Answer, count_and_log, retry, unknown_task
from worker.flower.search import needs_labels
from worker.flower.task_requests import known_requests, retryable_requests
from worker.settings import settings

_FOLDER = Path(__file__).parent
_FILES = _FOLDER / "static"
_VERSION = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(_FILES.iterdir()))).hexdigest()[:12]
_MAX_TASKS = 100
"""Maximum number of tasks that one HTTP request may retry: the length of the longest page of the list."""


def replace_handlers(handlers: list[Any], labels: Labels) -> None:
    """Put our handlers into the list of Flower's. It is changed in place, because Flower has imported it already."""
    replaced = {TaskView: TaskPage, TasksView: TasksPage}
    labelled = {TasksDataTable: LabelledTable, ListTasks: LabelledApi}
    for number, each in enumerate(handlers):
        pattern, handler = (each.regex.pattern, each.handler_class) if hasattr(each, "regex") else each[:2]
        name = getattr(each, "name", None)
        if handler in replaced:
            handlers[number] = url(pattern, replaced[handler], name=name)
        elif handler in labelled:
            handlers[number] = url(pattern, labelled[handler], {"labels": labels}, name=name)
    handlers[:0] = [
        url(r"/retry", RetryHandler, name="retry"),
        url(r"/retry/(.*)", StaticFileHandler, {"path": str(_FILES)}, name="retry_file"),
    ]


class _Loader(Loader):
    """Loads our templates, or Flower's if we have none with that name."""

    def _create_template(self, name: str) -> Template:
        folder = _FOLDER / "templates"
        if not (folder / name).exists():
            folder = Path(flower_settings["template_path"])
        return Template((folder / name).read_bytes(), name=name, loader=self)


class _Page(BaseHandler):  # type: ignore[misc]
    """A page of Flower in our template, which extends Flower's."""

    templates: ClassVar[dict[str, str]] = {"task.html": "task_with_retry.html", "tasks.html": "tasks_with_retry.html"}

    def get_template_path(self) -> str:
        return str(_FOLDER / "templates")

    def create_template_loader(self, template_path: str) -> Loader:
        return _Loader(template_path)

    def render(self, template_name: str, **values: Any) -> None:
        task = values.get("task")
        own = {
            "retry_version": _VERSION,
            "operations_url": str(settings().operations_url or "").rstrip("/"),
            "requests": " ".join(map(str, known_requests(task))) if task else "",
            "is_retryable": bool(task and task.state == "FAILURE" and retryable_requests(task)),
        }
        super().render(self.templates.get(template_name, template_name), **own, **values)


class TaskPage(_Page, TaskView):  # type: ignore[misc]
    """The page of a task, with a Retry button and links to its requests."""


class TasksPage(_Page, TasksView):  # type: ignore[misc]
    """The page with the list of tasks, with a Retry button for the selected ones."""


class RetryHandler(BaseHandler):  # type: ignore[misc]
    """Retries the tasks that a form names, and answers with the result for each."""

    def check_xsrf_cookie(self) -> None:
        """Require the XSRF token of Flower's pages, which Flower does not check if its login is basic."""
        super().check_xsrf_cookie()
        RequestHandler.check_xsrf_cookie(self)

    @authenticated
    async def post(self) -> None:
        names = list(dict.fromkeys(self.get_body_arguments("task")))
        if not 1 <= len(names) <= _MAX_TASKS:
            raise HTTPError(400, f"task: should name 1 to {_MAX_TASKS} tasks")
        options = self.application.options
        name = basic_name(self.request.headers["Authorization"]) if options.basic_auth else str(self.current_user)
        answers: list[Answer] = []
        for each in names:
            if answers and answers[-1].result == "unavailable":  # the others would wait as long
                answer = replace(answers[-1], task=each)
            else:
                answer = await self._retry(each)
            answers.append(count_and_log(answer, name))
        self.write({"answers": [asdict(each) for each in answers]})

    async def _retry(self, name: str) -> Answer:
        task = get_task_by_id(self.application.events, name)
        if task is None:
            return unknown_task(name)
        keys = retryable_requests(task)
        answer: Answer = await self.application.io_loop.run_in_executor(None, retry, name, keys, task.received)
        return answer

    def write_error(self, status_code: int, **details: Any) -> None:
        """Answer with the reason as JSON; Flower would answer with a page."""
        error = details.get("exc_info", (None, None))[1]
        if status_code == 401:
            self.set_header("WWW-Authenticate", 'Basic realm="flower"')
        self.finish({"message": error.get_message() if isinstance(error, HTTPError) else "Internal server error."})


class _Labelled(BaseHandler):  # type: ignore[misc]
    """A list of tasks that reads labels from the ledger before it searches by them."""

    def initialize(self, labels: Labels) -> None:
        self._labels = labels

    async def search(self, query: str, answer: Callable[[], None], refuse: Callable[[str], None]) -> None:
        """Call `answer`, or `refuse` with the reason if the labels that the query needs cannot be read now."""
        try:
            wanted = needs_labels(query)
        except QuerySyntaxError:
            wanted = False  # Flower reports it
        if wanted:
            try:
                await self._read_labels(self.application.events.state.tasks.values())
            except TransientError as error:
                if any(f"{field}:" in query for field in SEARCHABLE):
                    refuse(f"Organizations, triggers and outcomes cannot be searched now: {error.message}")
                    return
        answer()

    async def _read_labels(self, tasks: Iterable[Any]) -> None:
        if outdated := self._labels.outdated(list(tasks)):
            self._labels.remember(await self.application.io_loop.run_in_executor(None, read_labels, outdated))


class LabelledTable(_Labelled, TasksDataTable):  # type: ignore[misc]
    """The rows of Flower's list of tasks, with the columns of the ledger."""

    @authenticated
    async def get(self) -> None:
        await self._show()

    @authenticated
    async def post(self) -> None:
        await self._show()

    async def _show(self) -> None:
        await self.search(self.get_argument("search[value]", "", escape=False), super().get, self._refuse)

    def _refuse(self, message: str) -> None:
        draw = self.get_argument("draw", type=int, required=True)
        self.write({"draw": draw, "data": [], "recordsTotal": 0, "recordsFiltered": 0, "searchError": message})


class LabelledApi(_Labelled, ListTasks):  # type: ignore[misc]
    """Flower's API for lists of tasks, with search by the fields of the ledger."""

    @authenticated
    async def get(self) -> None:
        await self.search(self.get_argument("search", "", escape=False), super().get, self._refuse)

    def _refuse(self, message: str) -> None:
        self.set_status(503)
        self.write({"error": message})

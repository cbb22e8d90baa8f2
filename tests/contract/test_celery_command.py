"""`snapshots celery` names what keeps a process from starting, in one line, and uses no other project's broker."""

from pathlib import Path

from support.programs import Order, run_programs
from worker.settings import Settings

OTEL = {"SNAPSHOTS_TRACES": "otlp", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many"}
WRONG = {
    "unknown queue": (["worker", "-Q", "nosuch"], {}, "nosuch"),
    "pool that is not installed": (["worker", "-P", "gevent"], {}, "No module named 'gevent'"),
    "unknown user": (["worker", "--uid", "nosuch"], {}, "User does not exist: nosuch"),
    "port of Flower": (["flower"], {"FLOWER_PORT": "abc"}, "FLOWER_PORT: should be a whole number"),
    "OpenTelemetry": (["worker", "-P", "solo"], OTEL, "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT must be a non-negative integer"),
    "signal": (["beat"], {"REMAP_SIGTERM": "SIGFOO"}, "REMAP_SIGTERM: should be SIGQUIT, or unset"),
}
BROKER = {"CELERY_BROKER_URL": "amqp://guest:guest@127.0.0.1:1//", "CELERY_RESULT_BACKEND": "rpc://"}


def test_fault_is_named_in_a_line_without_a_traceback(settings: Settings) -> None:
    servers = {"SNAPSHOTS_MONGO_URL": settings.mongo_url, "SNAPSHOTS_REDIS_URL": settings.redis_url}
    orders = [Order("snapshots", ["celery", *given], {**servers, **own}) for given, own, _ in WRONG.values()]
    for name, (_, _, said), ended in zip(WRONG, WRONG.values(), run_programs(orders), strict=True):
        assert (ended.code in (1, 2), "Traceback" in ended.output) == (True, False), (name, ended.output)
        assert "Error: " in ended.output, (name, ended.output)
        assert said in ended.output, (name, ended.output)


def test_broker_of_another_celery_project_is_not_used(settings: Settings, tmp_path: Path) -> None:
    servers = {"SNAPSHOTS_MONGO_URL": settings.mongo_url, "SNAPSHOTS_REDIS_URL": settings.redis_url}
    arguments = ["celery", "worker", "-P", "solo", "-c", "1", "--statedb", str(tmp_path / "state")]
    (ended,) = run_programs([Order("snapshots", arguments, {**servers, **BROKER}, r" ready\.")])
    assert "ready." in ended.output
    assert "amqp" not in ended.output
    for name in BROKER:
        assert f'"variable": "{name}"' in ended.output, ended.output

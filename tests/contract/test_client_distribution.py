"""`training-snapshots-client` works in an environment that has nothing but redis, pydantic and what these require."""

import ast
import os
import subprocess
import tomllib
from pathlib import Path

from support.contacts import Contact
from support.in_process import pipeline
from support.wheels import CHECKOUT, CLIENT
from worker.client import SnapshotClient
from worker.client import __all__ as exported
from worker.service import Service
from worker.settings import Settings

PROGRAM = """
import os
from importlib import resources, util
import training_snapshots_client as package
from training_snapshots_client import InvalidRequest, SnapshotClient

assert not [name for name in ("worker", "pymongo", "celery", "structlog") if util.find_spec(name)]
assert resources.files(package).joinpath("py.typed").is_file()
with SnapshotClient(os.environ["REDIS_URL"]) as client:
    try:
        client.request("not an id", os.environ["CONTACT_ID"])
    except InvalidRequest as error:
        assert error.errors[0]["field"] == "organizationId", error.errors
    sent = client.request(os.environ["ORGANIZATION_ID"], os.environ["CONTACT_ID"], tags=["bare"])
    outcome = client.wait(sent, timeout=30)
print(outcome.completed, sorted(package.__all__))
"""


def test_request_from_a_bare_environment_is_completed(
    client_python: Path, service: Service, settings: Settings, contact: Contact, tmp_path: Path
) -> None:
    environment = {
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
        "REDIS_URL": settings.redis_url,
        "ORGANIZATION_ID": str(contact.organization),
        "CONTACT_ID": str(contact.id),
    }
    with pipeline(service):
        ended = subprocess.run(
            [client_python, "-W", "error", "-c", PROGRAM],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.stdout == f"True {sorted(exported)}\n", ended.stderr
    (snapshot,) = service.connections.database.trainingsnapshots.find()
    assert snapshot["tags"] == ["bare"]


def test_distribution_has_exactly_the_modules_that_the_client_imports() -> None:
    wheel = tomllib.loads((CLIENT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    included = [path.removeprefix("../../") for path in wheel["force-include"]]
    modules = {path for path in included if path.endswith(".py") and not path.endswith("__init__.py")}
    package = CHECKOUT / SnapshotClient.__module__.replace(".", "/")
    imported = set()
    for file in [*package.parent.glob("*.py"), *(CHECKOUT / path for path in modules)]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                folder = file.parents[node.level - 1]
                imported.add(str((folder / (node.module or "").replace(".", "/")).relative_to(CHECKOUT)) + ".py")
            elif isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("worker"), f"{file} should import relatively"
    assert {path for path in imported if not path.startswith("worker/client/")} == modules


def test_both_distributions_have_the_same_version() -> None:
    versions = {
        tomllib.loads((folder / "pyproject.toml").read_text())["project"]["version"] for folder in (CHECKOUT, CLIENT)
    }
    assert len(versions) == 1


def test_distribution_carries_the_text_of_the_license() -> None:
    assert (CLIENT / "LICENSE").read_text() == (CHECKOUT / "LICENSE").read_text()

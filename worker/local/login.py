"""The login of a local stack's HTTP API: its address, a generated secret and a valid token.

The secret is stored in the data folder, readable only by this user, so that a token survives a restart.
"""

import json
import os
import secrets
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from bson import ObjectId

from worker.errors import SnapshotError
from worker.local.data_folder import DataFolder, FolderUnusable
from worker.local.example import Example
from worker.settings import PREFIX, Settings

_FILE = "access.json"
_LIFE = 30 * 86_400
"""Lifetime of the token in seconds."""


class PortInUse(SnapshotError):
    """The port of the HTTP API cannot be opened."""

    code = "port_in_use"


@dataclass(frozen=True)
class Login:
    """How to reach the API of the local stack.

    `token`: an operator's, with the role ADMIN in `organization`; None if only public keys are configured.
    """

    url: str
    organization: ObjectId
    token: str | None
    environment: dict[str, str]
    """Additional environment variables of the API process."""
    listening: socket.socket
    example: Example | None = None
    """A conversation of `organization` in the platform's own database; None if that is started here, or has none."""


@contextmanager
def login(settings: Settings, folder: DataFolder, example: Example | None = None) -> Iterator[Login]:
    """Open a listening socket on 127.0.0.1. The API process inherits it, so the port survives a restart.

    The port is SNAPSHOTS_API_PORT if it is set, otherwise a free one. The organization is the example's, or a new one
    that is stored in the folder. Raises PortInUse.
    """
    kept = _load_or_create(folder.path / _FILE)
    organization = example.organization if example else ObjectId(kept["organization"])
    environment: dict[str, str] = {}
    secret: str | None = None
    if settings.jwt_secret is not None:
        secret = settings.jwt_secret.get_secret_value()
        environment[f"{PREFIX}JWT_SECRET"] = secret
    elif settings.jwt_public_key is None and settings.jwt_jwks is None:
        secret = kept["secret"]
        environment[f"{PREFIX}JWT_SECRET"] = secret
    named = settings.api_port if "api_port" in settings.model_fields_set else 0
    port = named or folder.ports("api")["api"]
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", port))
            listening.listen(2048)
        except OSError as error:
            fault = f"The API cannot listen on 127.0.0.1:{port}: {error.strerror}."
            message = f"{fault} Set {PREFIX}API_PORT to another port, or to 0 for a free one."
            raise PortInUse(message) from error
        token = secret and _mint(settings, secret, organization, kept["user"])
        yield Login(f"http://127.0.0.1:{port}", organization, token, environment, listening, example)


def stored_secret(folder: Path, name: str) -> str:
    """Return a random secret of the data folder that survives a restart."""
    return _load_or_create(folder / _FILE)[name]


def _load_or_create(file: Path) -> dict[str, str]:
    made = {
        "secret": secrets.token_hex(32),
        "organization": str(ObjectId()),
        "user": str(ObjectId()),
        "flower": secrets.token_hex(16),
        "erasure": secrets.token_hex(32),
    }
    with suppress(FileNotFoundError, ValueError):  # absent, or truncated by a crash of an earlier version
        found: Any = json.loads(file.read_text())
        if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
            raise FolderUnusable(f"{file} is damaged: restore it from a backup, or remove it, and with it its keys.")
        if made.keys() <= found.keys():
            return dict(found)
        made |= found  # written by an earlier version
    whole = file.with_suffix(".new")
    with os.fdopen(os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
        json.dump(made, opened)
        opened.flush()
        os.fsync(opened.fileno())
    whole.replace(file)  # all or nothing: without the earlier key of erasures, nothing would be accepted
    return made


def _mint(settings: Settings, secret: str, organization: ObjectId, user: str) -> str:
    claims: dict[str, str | int | bool] = {
        "organizationId": str(organization),
        "id": user,
        "accessRole": "ADMIN",
        "operator": True,
        "exp": int(time.time()) + _LIFE,
    }
    for name, value in (("iss", settings.jwt_issuer), ("aud", settings.jwt_audience)):
        claims |= {} if value is None else {name: value}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", jwt.InsecureKeyLengthWarning)  # logged as `jwt_secret_short`
        return jwt.encode(claims, secret, "HS256")

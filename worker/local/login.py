"""Access to the HTTP surface of a stack on one machine: a secret that is made, an address, a ready token.

What is made is kept beside the data, readable by this user alone, so that a token outlives a restart.
"""

import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import jwt
from bson import ObjectId

from worker.local.data_folder import DataFolder
from worker.settings import PREFIX, Settings

_LIFE = 30 * 86_400
"""Seconds that the token is valid."""


@dataclass(frozen=True)
class Access:
    """`token` is an ADMIN's of `organization`, and an operator's; None where only public keys are set."""

    url: str
    organization: ObjectId
    token: str | None
    environment: dict[str, str]
    """What the process that serves has to have beside the rest."""
    listening: socket.socket


@contextmanager
def access(settings: Settings, folder: DataFolder) -> Iterator[Access]:
    """A listening socket of 127.0.0.1, which the serving process inherits: its port outlives a restart."""
    kept = _kept(folder.path / "access.json")
    environment: dict[str, str] = {}
    secret: str | None = None
    if settings.jwt_secret is not None:
        secret = settings.jwt_secret.get_secret_value()
    elif settings.jwt_public_key is None and settings.jwt_jwks is None:
        secret = kept["secret"]
        environment[f"{PREFIX}JWT_SECRET"] = secret
    port = folder.ports("api")["api"]
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen(2048)
        token = secret and _mint(settings, secret, kept)
        yield Access(f"http://127.0.0.1:{port}", ObjectId(kept["organization"]), token, environment, listening)


def _kept(file: Path) -> dict[str, str]:
    with suppress(FileNotFoundError, ValueError):  # cut short by a crash, at worst
        found: dict[str, str] = json.loads(file.read_text())
        return found
    made = {"secret": secrets.token_hex(32), "organization": str(ObjectId()), "user": str(ObjectId())}
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
        json.dump(made, opened)
    return made


def _mint(settings: Settings, secret: str, kept: dict[str, str]) -> str:
    claims: dict[str, str | int | bool] = {
        "organizationId": kept["organization"],
        "id": kept["user"],
        "accessRole": "ADMIN",
        "operator": True,
        "exp": int(time.time()) + _LIFE,
    }
    for name, value in (("iss", settings.jwt_issuer), ("aud", settings.jwt_audience)):
        claims |= {} if value is None else {name: value}
    return jwt.encode(claims, secret, "HS256")

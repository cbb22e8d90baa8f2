"""Writes the file `env` in the data folder, which lets a second terminal use a local stack.

`. FOLDER/env` sets the addresses and the stack's other settings for the commands, and `REDIS_URL`, `API_URL`, `TOKEN`,
`ORGANIZATION_ID`, `CONTACT_ID` and `CONVERSATION_ID` for the examples of the documentation. They are those of a
conversation of the platform's own database; without one, they exist once the sample conversations are imported.
"""

import os
import shlex
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from bson import ObjectId

from worker.importing.neutral_form import parse
from worker.importing.source_documents import SourceDocuments
from worker.local.data_folder import last_ports
from worker.local.embedded import mongo_url, redis_url
from worker.local.example import Example
from worker.local.login import Login
from worker.settings import PREFIX, Settings

FILE = "env"
SAMPLES = Path(__file__).parent / "samples" / "conversations.jsonl"


def write_shell_variables(folder: Path, settings: Settings, api: Login) -> Path:
    """Write the file, readable only by this user because URLs and token are secrets, and return its path."""
    example = api.example or _first_sample(api.organization)
    variables = {
        **_given_settings(),
        f"{PREFIX}REDIS_URL": settings.redis_url,
        f"{PREFIX}MONGO_URL": settings.mongo_url,
        f"{PREFIX}MONGO_DATABASE": settings.mongo_database,
        f"{PREFIX}EXPORTS_URL": settings.exports_url or "",
        f"{PREFIX}ERASURE_KEY": settings.erasure_key.get_secret_value() if settings.erasure_key else "",
        f"{PREFIX}ERASURE_SIGNING_KEY": str(settings.erasure_signing_key or ""),
        f"{PREFIX}API_PORT": str(urlsplit(api.url).port),
        "REDIS_URL": settings.redis_url,
        "API_URL": api.url,
        "TOKEN": api.token or "",
        "ORGANIZATION_ID": str(example.organization),
        "CONTACT_ID": str(example.contact),
        "CONVERSATION_ID": str(example.conversation),
    }
    path = folder / FILE
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.writelines(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items() if value)
    return path


def forget_own_servers(folder: Path) -> None:
    """Unset the variables that name servers of this folder: a shell that has read its `env` starts the stack again."""
    own = {f"{PREFIX}REDIS_URL": ("valkey", redis_url), f"{PREFIX}MONGO_URL": ("mongod", mongo_url)}
    ports = last_ports(folder / "servers")
    for name, (server, url) in own.items():
        if server in ports and os.environ.get(name) == url(ports[server]):
            del os.environ[name]


def _given_settings() -> dict[str, str]:
    """Return the settings in the environment, such as names of collections and fields: all processes need the same."""
    names = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields if not name.startswith("jwt_")]
    return {name: os.environ[name] for name in names if name in os.environ}


def _first_sample(organization: ObjectId) -> Example:
    """Return the ids that an import gives to the first sample. They are derived from the organization."""
    with SAMPLES.open("rb") as file:
        documents = SourceDocuments(organization, parse(file.readline()), datetime.now(UTC))
    return Example(organization, documents.contact["_id"], documents.conversation_id)

"""Opens the destination of an export."""

import os
from pathlib import Path
from urllib.parse import urlsplit

from bson import ObjectId

from worker.errors import InvalidSettings
from worker.exports.bucket import Bucket
from worker.exports.destination import VARIABLE, Destination, Folder
from worker.settings import Settings


def open_destination(settings: Settings, export: ObjectId) -> Destination:
    """Return the destination of an export that workers write.

    Raises InvalidSettings if SNAPSHOTS_EXPORTS_URL is not set, or names a bucket and the extra `exports` is not
    installed.
    """
    url = settings.exports_url
    if not url:
        raise InvalidSettings(
            f"{VARIABLE} is not set: it names the folder or bucket for exports. Set it in all workers and API "
            "processes, or let `snapshots export -o FOLDER` write the files."
        )
    root = _root(url)
    return Folder(root / str(export), root / f".{export}") if root else Bucket(url, export)


def _root(url: str) -> Path | None:
    """Return the folder that a URL names; None if it names a bucket."""
    scheme, _, rest = url.partition("://")
    if not rest:
        return Path(url)
    return Path(urlsplit(url).path) if scheme == "file" else None


def fault_of_folder(settings: Settings) -> str | None:
    """Return a sentence that says why this process cannot write exports to the folder in the settings, or None.

    The folder need not exist, because exports create it. Also returns None if no destination is set, or if it is a
    bucket, which is not checked.
    """
    root = _root(settings.exports_url) if settings.exports_url else None
    if root is None:
        return None
    made = root.absolute()
    while not os.path.exists(made):  # noqa: PTH110 - Path.exists raises if a parent must not be read
        made = made.parent
    if os.path.isdir(made) and os.access(made, os.W_OK | os.X_OK):  # noqa: PTH112
        return None
    return f"{VARIABLE}: {root} cannot be written: allow this user to write to {made}, or choose another folder."


def open_folder(folder: Path, export: ObjectId) -> Destination:
    """Return the destination of an export that a command writes into a folder.

    `folder`: need not exist yet. `export`: the id of the export's job, which names the hidden folder beside it.
    """
    return Folder(folder, folder.parent / f".{export}", export)

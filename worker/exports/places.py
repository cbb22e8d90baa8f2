"""Finds the destination of an export."""

from pathlib import Path
from urllib.parse import urlsplit

from bson import ObjectId

from worker.errors import InvalidSettings
from worker.exports.bucket import Bucket
from worker.exports.destination import VARIABLE, Destination, Folder
from worker.settings import Settings


def open_destination(settings: Settings, export: ObjectId) -> Destination:
    """Return the destination of an export that workers write.

    Raises InvalidSettings if none is set or the extra for buckets is not installed.
    """
    url = settings.exports_url
    if not url:
        raise InvalidSettings(f"{VARIABLE} is not set: it names the folder or bucket for exports.")
    scheme, _, rest = url.partition("://")
    if not rest:
        root = Path(url)
    elif scheme == "file":
        root = Path(urlsplit(url).path)
    else:
        return Bucket(url, export)
    return Folder(root / str(export), root / f".{export}")


def open_folder(folder: Path, export: ObjectId) -> Destination:
    """Return the destination of an export that a command writes into a folder of its user."""
    return Folder(folder, folder.parent / f".{export}", export)

"""Exports in a bucket with the S3 protocol.

Each upload is atomic; the manifest is uploaded last and completes an export.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

from bson import ObjectId

from worker.errors import InvalidSettings
from worker.exports.destination import VARIABLE, DestinationFailed, DestinationUnavailable, destination_errors

_MANIFEST = "manifest.json"


@contextmanager
def bucket_errors(where: str) -> Iterator[None]:
    """Translate the errors of s3fs, which are OSErrors, and those of botocore that s3fs passes on."""
    from botocore.exceptions import BotoCoreError, NoCredentialsError

    try:
        with destination_errors(where):
            yield
    except NoCredentialsError as error:
        raise DestinationFailed(f"The destination {where} cannot be used: AWS_ACCESS_KEY_ID is not set.") from error
    except BotoCoreError as error:
        raise DestinationUnavailable(f"The destination {where} cannot be reached ({type(error).__name__}).") from error


def open_s3(variable: str) -> Any:
    """Return s3fs's file system. Raises InvalidSettings, which names the variable, if the extra is not installed."""
    try:
        import fsspec
        import s3fs  # noqa: F401 - fsspec imports it by name
    except ModuleNotFoundError:
        extra = "pip install 'training-snapshots[exports]'"
        raise InvalidSettings(f"{variable} names a bucket, which needs the extra exports: {extra}") from None
    # Without it, listings would be cached although other processes write to the same prefix.
    return fsspec.filesystem("s3", use_listings_cache=False)


class Bucket:
    """A folder of a bucket, through `fsspec`. Key, secret and endpoint come from AWS's environment variables."""

    def __init__(self, url: str, export: ObjectId) -> None:
        """`url`: `s3://bucket/prefix`. Raises InvalidSettings if the extra is not installed."""
        if not url.startswith("s3://"):
            raise InvalidSettings(f"{VARIABLE} should be a folder, or s3://bucket/prefix.")
        self._files: Any = open_s3(VARIABLE)
        root = url.removeprefix("s3://").rstrip("/")
        self.where = f"s3://{root}/{export}"
        self._final = f"{root}/{export}"
        self._staging = f"{root}/.{export}"

    def begin(self, place: str) -> None:
        """Do nothing: a bucket has no folders."""

    @contextmanager
    def create(self, place: str, name: str) -> Iterator[IO[bytes]]:
        with bucket_errors(self.where), self._files.open(f"{self._staging}/{place}/{name}", "wb") as file:
            yield file

    def publish(self, staged: Mapping[str, str], place: str) -> None:
        manifest_last = sorted(staged.items(), key=lambda each: each[0] == _MANIFEST)
        with bucket_errors(self.where):
            for path, source in manifest_last:
                self._files.copy(f"{self._staging}/{source}", f"{self._final}/{path}")

    def manifest(self) -> bytes | None:
        with bucket_errors(self.where):
            try:
                return bytes(self._files.cat_file(f"{self._final}/{_MANIFEST}"))
            except FileNotFoundError:
                return None

    def open(self, path: str) -> IO[bytes]:
        with bucket_errors(self.where):
            file: IO[bytes] = self._files.open(f"{self._final}/{path}", "rb")
            return file

    def replace(self, path: str, content: bytes) -> None:
        with bucket_errors(self.where):
            self._files.pipe_file(f"{self._final}/{path}", content)

    def discard(self, path: str) -> None:
        with bucket_errors(self.where):
            if self._files.exists(f"{self._final}/{path}"):
                self._files.rm_file(f"{self._final}/{path}")

    def paths(self) -> list[str]:
        with bucket_errors(self.where):
            return sorted(path.removeprefix(f"{self._final}/") for path in self._files.find(self._final))

    def remove_staging(self) -> None:
        self._remove(self._staging)

    def remove(self) -> None:
        self._remove(self._staging)  # first, so that no slice that still runs can publish it afterwards
        self._remove(self._final)

    def _remove(self, folder: str) -> None:
        with bucket_errors(self.where):
            if found := self._files.find(folder):
                self._files.rm(found)

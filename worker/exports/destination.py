"""Writes the files of an export to their destination: a folder, or a bucket (`worker.exports.bucket`).

Parts are written under staging names, in a place of their own for each slice, so that a slice that was taken over
cannot change what a later one has finished. Only whole exports get their final names.
"""

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, Protocol

from bson import ObjectId

from worker.errors import PermanentError, TransientError
from worker.settings import PREFIX

VARIABLE = f"{PREFIX}EXPORTS_URL"
_LASTING = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EFBIG,
    errno.EXDEV,
    errno.EBUSY,
    errno.ENAMETOOLONG,
    errno.ENOTEMPTY,
    errno.EEXIST,
    errno.EISDIR,
}
"""Numbers of errors that do not pass without help: the export fails with the reason."""


class DestinationFailed(PermanentError):
    """The export destination refused the operation, for example because of permissions or a full disk."""

    code = "destination_failed"


class DestinationUnavailable(TransientError):
    """The destination of the export cannot be reached."""

    code = "destination_unavailable"


@contextmanager
def destination_errors(where: str) -> Iterator[None]:
    """Translate the errors of files and buckets into DestinationFailed or DestinationUnavailable."""
    try:
        yield
    except OSError as error:
        # A time limit of fsspec has neither a number nor a message.
        reason = (error.strerror or str(error).strip() or type(error).__name__).splitlines()[0][:200]
        lasting = error.errno in _LASTING or isinstance(error, PermissionError | FileNotFoundError)
        kind = DestinationFailed if lasting else DestinationUnavailable
        raise kind(f"The destination {where} cannot be used: {reason}.") from error


class Destination(Protocol):
    """The files of one export. All methods raise DestinationFailed and DestinationUnavailable."""

    where: str
    """The folder or URL as users see it."""

    def begin(self, place: str) -> None:
        """Create the staging place of a slice. Called only by the slice that holds the lease."""

    def create(self, place: str, name: str) -> AbstractContextManager[IO[bytes]]:
        """Write a staged file, which is durable at the end of the block."""

    def publish(self, staged: Mapping[str, str], place: str) -> None:
        """Give staged files their final names, all of them or none. `staged`: `place/name` by final path.

        It can be repeated after it was interrupted. The last of them is the manifest.
        """

    def manifest(self) -> bytes | None:
        """Return the manifest of the finished files; None if there are none."""

    def open(self, path: str) -> IO[bytes]:
        """Open a finished file for reading. `path` must come from the manifest, never from a caller."""

    def replace(self, path: str, content: bytes) -> None:
        """Replace the content of a finished file atomically."""

    def discard(self, path: str) -> None:
        """Remove one finished file, if it exists."""

    def paths(self) -> list[str]:
        """Return the paths of the finished files."""

    def remove_staging(self) -> None:
        """Remove all staged files."""

    def remove(self) -> None:
        """Remove all files of this export, staged and finished."""


class Folder:
    """An export in a folder, which appears under its final name only when it is complete."""

    def __init__(self, final: Path, staging: Path, export: ObjectId | None = None) -> None:
        """`staging`: in the same file system. `export`: set if others may write to `final`, whose files stay."""
        self.where = str(final)
        self._export = export
        self._final = final
        self._staging = staging

    def begin(self, place: str) -> None:
        with destination_errors(self.where):
            (self._staging / place).mkdir(parents=True, exist_ok=True)

    @contextmanager
    def create(self, place: str, name: str) -> Iterator[IO[bytes]]:
        path = self._staging / place / name
        with destination_errors(self.where), path.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())

    def publish(self, staged: Mapping[str, str], place: str) -> None:
        whole = self._staging / "final"
        with destination_errors(self.where):
            for path, source in staged.items():
                target = whole / path
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    (self._staging / source).rename(target)
                except FileNotFoundError:
                    if not target.exists():  # otherwise it was moved before an interruption
                        raise
            for folder in {whole, *(path.parent for path in whole.rglob("*"))}:
                _sync(folder)
            whole.rename(self._final)
            _sync(self._final.parent)

    def manifest(self) -> bytes | None:
        with destination_errors(self.where):
            try:
                return (self._final / "manifest.json").read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def open(self, path: str) -> IO[bytes]:
        with destination_errors(self.where):
            return (self._final / path).open("rb")

    def replace(self, path: str, content: bytes) -> None:
        target = self._final / path
        staged = target.with_name(f".{target.name}.new")
        with destination_errors(self.where):
            with staged.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            staged.rename(target)
            _sync(target.parent)

    def discard(self, path: str) -> None:
        with destination_errors(self.where):
            (self._final / path).unlink(missing_ok=True)
            _sync((self._final / path).parent)

    def paths(self) -> list[str]:
        return sorted(path.relative_to(self._final).as_posix() for path in self._final.rglob("*") if path.is_file())

    def remove_staging(self) -> None:
        with destination_errors(self.where):
            _remove(self._staging)

    def remove(self) -> None:
        with destination_errors(self.where):
            _remove(self._staging)  # first, so that no slice that still runs can publish it afterwards
            if self._export is None or is_of(self.manifest(), self._export):
                _remove(self._final)


def is_of(manifest: bytes | None, export: ObjectId, moment: str | None = None) -> bool:
    """Return whether a manifest is of this export, and of this moment if one is given."""
    try:
        found = json.loads(manifest or b"null")
    except (ValueError, RecursionError):
        return False
    wanted = {"exportId": str(export), **({"moment": moment} if moment else {})}
    return isinstance(found, dict) and found.items() >= wanted.items()


def _sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(folder: Path) -> None:
    """Remove a folder as a whole: renamed first, so that nobody sees half of it or adds to it."""
    doomed = folder.with_name(f".{folder.name.lstrip('.')}.removed")
    for _ in range(3):  # the first one is what an interrupted removal has left
        with suppress(FileNotFoundError):  # another process removes it as well
            if doomed.exists():
                shutil.rmtree(doomed)
            if folder.exists():
                folder.rename(doomed)

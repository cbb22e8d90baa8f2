"""The folder of the embedded servers: one user at a time, and nothing temporary stays."""

import errno
import fcntl
import json
import os
import socket
import tempfile
from pathlib import Path

import pytest

from worker.local.data_folder import PORTS, TEMPORARY_PREFIX, FolderInUse, FolderUnusable, data_folder
from worker.local.login import stored_secret


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made in this test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_temporary_folder_is_removed_in_the_end(temporary: Path) -> None:
    with data_folder() as folder:
        assert folder.path.parent == temporary
        (folder.path / "file").write_text("x")
    assert list(temporary.iterdir()) == []


def test_temporary_folder_is_removed_after_an_exception(temporary: Path) -> None:
    with pytest.raises(ZeroDivisionError), data_folder():
        _ = 1 / 0
    assert list(temporary.iterdir()) == []


def test_stale_temporary_folder_is_removed_at_the_next_start(temporary: Path) -> None:
    stale = temporary / f"{TEMPORARY_PREFIX}stale"
    stale.mkdir()
    (stale / "lock").touch()
    with data_folder():
        assert not stale.exists()


def test_temporary_folder_in_use_is_left_alone(temporary: Path) -> None:
    with data_folder() as one, data_folder() as other:
        assert one.path.exists()
        assert other.path.exists()


def test_foreign_folder_of_the_same_prefix_is_left_alone(temporary: Path) -> None:
    foreign = temporary / f"{TEMPORARY_PREFIX}notes"
    foreign.mkdir()
    with data_folder():
        assert foreign.exists()


def test_full_disk_is_reported_with_the_folders_that_were_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_none() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", find_none)
    with pytest.raises(FolderUnusable, match=r"No temporary folder .*\['/tmp'\]\. Free space .*TMPDIR"), data_folder():
        pass


def test_kept_folder_is_made_and_stays(tmp_path: Path) -> None:
    with data_folder(tmp_path / "a" / "b") as folder:
        (folder.path / "file").write_text("x")
    assert (tmp_path / "a" / "b" / "file").read_text() == "x"


@pytest.mark.parametrize("before", ["absent", "empty", "used"])
def test_kept_folder_is_readable_by_its_user_alone(tmp_path: Path, before: str) -> None:
    folder = tmp_path / "data"
    if before != "absent":
        folder.mkdir(mode=0o755)
    if before == "used":
        with data_folder(folder):
            (folder / "file").touch()
        folder.chmod(0o755)
    with data_folder(folder):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_mode_of_a_folder_with_other_content_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").touch()
    tmp_path.chmod(0o755)
    with data_folder(tmp_path):
        assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_mode_of_a_folder_with_other_content_is_left_alone_when_it_is_used_again(tmp_path: Path) -> None:
    (tmp_path / "notes").touch()
    with data_folder(tmp_path):
        pass
    tmp_path.chmod(0o755)
    with data_folder(tmp_path):
        assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = r"file/data cannot be used as a data folder: Not a directory"
    with pytest.raises(FolderUnusable, match=said), data_folder(tmp_path / "file" / "data"):
        pass


def test_kept_folder_has_one_user_at_a_time(tmp_path: Path) -> None:
    with data_folder(tmp_path), pytest.raises(FolderInUse, match=str(tmp_path)), data_folder(tmp_path, patience=0.1):
        pass
    with data_folder(tmp_path):
        pass


def test_lock_lasts_until_the_last_server_that_inherited_it_is_gone(tmp_path: Path) -> None:
    with data_folder(tmp_path) as folder:
        inherited = os.dup(folder.lock)
    with pytest.raises(FolderInUse), data_folder(tmp_path, patience=0):
        pass
    os.close(inherited)
    with data_folder(tmp_path) as folder:
        fcntl.flock(folder.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_ports_are_remembered_while_they_are_free(tmp_path: Path) -> None:
    with data_folder(tmp_path) as folder:
        first = folder.ports("mongod", "valkey")
        assert folder.ports("mongod", "valkey") == first
        assert len(set(first.values())) == 2
        assert all(port in PORTS for port in first.values())
        assert folder.ports("mongod", "valkey", other=True) != first


def test_taken_port_is_replaced(tmp_path: Path) -> None:
    with data_folder(tmp_path) as folder, socket.socket() as taker:
        first = folder.ports("mongod", "valkey")
        taker.bind(("127.0.0.1", first["mongod"]))
        taker.listen()
        second = folder.ports("mongod", "valkey")
    assert second["mongod"] != first["mongod"]
    assert second["valkey"] == first["valkey"]


def test_unreadable_memory_of_ports_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "ports.json").write_text("{")
    with data_folder(tmp_path) as folder:
        assert set(folder.ports("mongod")) == {"mongod"}


def test_secrets_are_kept_if_a_crash_interrupts_the_addition_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later version may store more of them. Without the key of erasures, the database accepts nothing."""
    key = stored_secret(tmp_path, "erasure")
    file = tmp_path / "access.json"
    earlier = {name: value for name, value in json.loads(file.read_text()).items() if name != "flower"}
    file.write_text(json.dumps(earlier))

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(json, "dump", crash)
        with pytest.raises(KeyboardInterrupt):
            stored_secret(tmp_path, "flower")
    assert json.loads(file.read_text()) == earlier
    assert stored_secret(tmp_path, "flower")
    assert stored_secret(tmp_path, "erasure") == key
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", ["[]", '{"mongod": "seven"}', '{"mongod": 70000}'])
def test_ports_that_are_damaged_are_chosen_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / "ports.json").write_text(content)
    with data_folder(tmp_path) as folder:
        assert 0 < folder.ports("mongod")["mongod"] <= 65535


def test_secrets_of_another_type_are_not_replaced(tmp_path: Path) -> None:
    file = tmp_path / "access.json"
    file.write_text("[]")
    with pytest.raises(FolderUnusable, match=r"access\.json is damaged: restore it from a backup"):
        stored_secret(tmp_path, "erasure")
    assert file.read_text() == "[]"

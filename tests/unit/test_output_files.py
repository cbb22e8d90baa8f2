"""Files that commands write where their users want them."""

import subprocess
import sys
from pathlib import Path

import pytest

from worker.cli.output_files import write_new_file

FULL_DISK = """
import resource, sys
from pathlib import Path
from worker.cli.output_files import write_new_file
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))  # Python ignores SIGXFSZ, so that a write raises OSError
try:
    write_new_file(Path(sys.argv[1]), b"x" * 100)
except OSError as error:
    sys.exit(error.strerror)
"""


def test_receipt_is_written_whole(tmp_path: Path) -> None:
    write_new_file(tmp_path / "receipt.json", b"{}\n")
    assert (tmp_path / "receipt.json").read_bytes() == b"{}\n"


def test_receipt_that_does_not_fit_onto_the_disk_leaves_no_file(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "receipt.json")]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "File too large\n")
    assert list(tmp_path.iterdir()) == []


def test_file_that_exists_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "receipt.json"
    path.write_bytes(b"another")
    with pytest.raises(FileExistsError):
        write_new_file(path, b"{}")
    assert path.read_bytes() == b"another"

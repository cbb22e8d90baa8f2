"""The whole system as `snapshots up` runs it, Flower, and a headless Chromium."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from tempfile import TemporaryDirectory

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from support.site import Site, site_on

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return the path of the browser. Without one, these tests are skipped."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((path for name in names if (path := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"none of {', '.join(names)} is installed (Debian: apt-get install chromium)")
    return path


@pytest.fixture(scope="module")
def site(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with ExitStack() as stack:
        yield site_on(tmp_path_factory.mktemp("site"), stack)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    expect.set_options(timeout=30_000)  # milliseconds; the default of 5 s is short on a busy machine
    # Chromium puts a socket into its temporary folder, whose path has at most 107 bytes.
    with sync_playwright() as playwright, TemporaryDirectory(dir="/tmp") as folder:
        environment: dict[str, str | float | bool] = {**os.environ, "TMPDIR": folder}
        opened = playwright.chromium.launch(executable_path=chromium, args=FLAGS, env=environment)
        yield opened
        opened.close()

"""Headless Chromium for tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service


@contextmanager
def chromium(*flags: str, user: int | None = None) -> Iterator[webdriver.Chrome]:
    """A browser that keeps what pages log and what goes over the network.

    `user`: the number of the system's user who runs it. Only root may choose another one.
    """
    program = shutil.which("chromium")
    if program is None:
        pytest.fail("chromium is not on PATH. On Debian: apt-get install chromium chromium-driver")
    profile = tempfile.mkdtemp(prefix="softcart-chromium-")
    service = Service(shutil.which("chromedriver") or "/usr/bin/chromedriver")
    if user is not None:
        os.chown(profile, user, user)
        # It keeps some of its files at home, whatever the profile.
        service.env = {**os.environ, "HOME": profile}
        service.popen_kw = {"user": user, "group": user, "extra_groups": [], "cwd": profile}
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "lang=en-GB",
        "window-size=1280,900",
        f"user-data-dir={profile}",
        *flags,
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield driver
    finally:
        driver.quit()
        shutil.rmtree(profile, ignore_errors=True)

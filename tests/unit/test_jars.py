"""Java libraries are used only if they are exactly the pinned ones. A script stands for Maven."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from softcart_assets import jars
from softcart_assets.jars import JarsError, fetch, folder, names, pin

BRINGS = """#!/bin/sh
echo "$@" >>{calls}
for each in "$@"; do case $each in -DoutputDirectory=*) to=${{each#*=}} ;; esac; done
mkdir -p "$to" && cp {repository}/*.jar "$to"
"""
FAILS = """#!/bin/sh
echo "[INFO] Scanning"
echo "[ERROR] Unknown host"
exit 1
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What "Maven" has, for one set of libraries in an installation of its own."""
    repository, pinned = tmp_path / "repository", tmp_path / "sets"
    for each in (repository, pinned, tmp_path / "bin"):
        each.mkdir()
    for name in ("a.jar", "b.jar"):
        (repository / name).write_text(name)
    (pinned / "engine.xml").write_text("<project/>")
    (pinned / "engine.sha256").touch()
    monkeypatch.setattr(jars, "_HERE", pinned)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    (tmp_path / "venv").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    maven(tmp_path, BRINGS)
    pin("engine")
    (tmp_path / "calls").unlink()
    return repository


def maven(where: Path, script: str) -> None:
    program = where / "bin" / "mvn"
    program.write_text(script.format(calls=where / "calls", repository=where / "repository"))
    program.chmod(0o755)


def test_libraries_are_fetched_once(repository: Path, tmp_path: Path) -> None:
    found = fetch("engine")
    assert sorted(file.name for file in found.iterdir()) == ["a.jar", "b.jar"]
    assert fetch("engine") == found == folder("engine")
    (call,) = (tmp_path / "calls").read_text().splitlines()
    assert f"--file={tmp_path / 'sets' / 'engine.xml'}" in call


def test_what_differs_from_the_pins_is_not_used(repository: Path) -> None:
    (repository / "b.jar").write_text("something else")
    (repository / "c.jar").write_text("one more")
    with pytest.raises(JarsError, match=r"engine\.sha256 pins.*: b\.jar, c\.jar\. Find out"):
        fetch("engine")
    assert not folder("engine").exists()
    (repository / "b.jar").unlink()
    (repository / "c.jar").unlink()
    with pytest.raises(JarsError, match=r": b\.jar\. Find out"):
        fetch("engine")


def test_new_pins_take_the_place_of_old_ones_of_the_same_set(repository: Path) -> None:
    old = fetch("engine")
    other = old.with_name("engine-more-0123456789ab")
    other.mkdir()
    (repository / "b.jar").write_text("a new version")
    pin("engine")
    new = fetch("engine")
    assert new != old
    assert (new / "b.jar").read_text() == "a new version"
    assert not old.exists()
    assert other.exists()


def test_errors_say_what_to_do(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maven(tmp_path, FAILS)
    with pytest.raises(JarsError, match=r"Check that `mvn` reaches.*\n\[ERROR\] Unknown host$"):
        fetch("engine")
    monkeypatch.setenv("PATH", str(tmp_path / "venv"))
    with pytest.raises(JarsError, match="Install Debian's package maven"):
        fetch("engine")


def test_every_set_has_a_list_of_checksums() -> None:
    for name in names():
        lines = (jars._HERE / f"{name}.sha256").read_text().splitlines()
        assert lines
        assert all(re.fullmatch(r"[0-9a-f]{64}  \S+\.jar", line) for line in lines), name
        files = [line.split()[1] for line in lines]
        assert files == sorted(set(files))

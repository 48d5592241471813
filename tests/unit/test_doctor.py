"""What `softcart doctor` says of machines that lack something. No server is needed."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from softcart_assets.lines.model import Source
from softcart_assets.stack import Stack, doctor, mysql, server

SOURCES = (Source("one", "mysql", "", ()), Source("two", "mysql", "", ()))


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the whole PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return folder


def _found(level: str, stack: Stack | None = None) -> str:
    stack = stack or Stack(Path("/nonexistent/home"))
    return "\n".join(finding.text for finding in doctor.examine(stack) if finding.level == level)


def _java(programs: Path, version: str) -> None:
    java = programs / "java"
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2024-01-01' >&2\n")
    java.chmod(0o755)


def test_missing_java_blocks_and_names_the_package(programs: Path) -> None:
    assert "install Debian's openjdk-17-jre-headless or set JAVA_HOME" in _found("blocks")


@pytest.mark.parametrize("version", ["1.8.0_392", "11.0.22"])
def test_old_java_blocks(programs: Path, version: str) -> None:
    _java(programs, version)
    assert f'Java: java is openjdk version "{version}"' in _found("blocks")


@pytest.mark.parametrize("version", ["17.0.15", "21"])
def test_new_java_is_fine(programs: Path, version: str) -> None:
    _java(programs, version)
    assert f'version "{version}"' in _found("ok")
    assert "Java" not in _found("blocks")


def test_missing_mysql_blocks_unless_every_source_is_named(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not by PATH: a server in /usr/sbin is found without it.
    monkeypatch.setattr(mysql, "find_program", lambda name: None)
    message = "There is no MySQL server here. Install Debian's packages mariadb-server-core"
    stack = Stack(Path("/nonexistent/home"), sources=SOURCES)
    blocks = _found("blocks", stack)
    assert message in blocks
    assert "name servers of your own with SOFTCART_ONE_HOST and SOFTCART_TWO_HOST." in blocks
    monkeypatch.setenv("SOFTCART_ONE_HOST", "127.0.0.1")
    blocks = _found("blocks", stack)
    assert message in blocks
    assert "SOFTCART_ONE: SOFTCART_ONE_USER is not set" in blocks
    monkeypatch.setenv("SOFTCART_TWO_HOST", "127.0.0.1")
    assert message not in _found("blocks", stack)


def test_a_product_that_no_source_needs_is_not_missed(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mysql, "find_program", lambda name: None)
    assert "MySQL" not in _found("blocks", Stack(Path("/nonexistent/home"), sources=()))


def test_missing_browser_is_only_worth_a_note(programs: Path) -> None:
    assert "Debian package chromium-driver" in _found("note")


def test_a_named_server_that_does_not_answer_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    port = str(server.free_port())
    for name, value in {
        "HOST": "127.0.0.1",
        "PORT": port,
        "USER": "u",
        "PASSWORD": "hush",
        "DATABASE": "d",
    }.items():
        monkeypatch.setenv(f"SOFTCART_STAGING_{name}", value)
    blocks = _found("blocks")
    assert (
        f"SOFTCART_STAGING: PostgreSQL database 'd' at 127.0.0.1:{port} cannot be used as 'u'"
        in blocks
    )
    assert "hush" not in blocks


def test_a_full_disk_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "DISK_BYTES", 2**80)
    assert "GiB free for /nonexistent/home" in _found("note")


def test_folders_where_nothing_can_be_written_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTCART_EXTRACTS_DIR", "/proc/x")
    monkeypatch.setenv("SOFTCART_LAKE_URI", "file:///sys/lake")
    blocks = _found("blocks", Stack(Path("/proc/home")))
    for setting in ("SOFTCART_HOME", "SOFTCART_EXTRACTS_DIR", "SOFTCART_LAKE_URI"):
        assert f"is not writable. Set {setting} to a folder that is." in blocks


def test_an_extracts_folder_elsewhere_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SOFTCART_EXTRACTS_DIR", str(tmp_path / "extracts"))
    said = "\n".join(finding.text for finding in doctor.examine(Stack(tmp_path / "home")))
    assert str(tmp_path / "extracts") in said


@pytest.mark.parametrize("uri", ["ftp://somewhere/lake", "lake"])
def test_a_lake_that_nobody_can_open_blocks(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTCART_LAKE_URI", uri)
    blocks = _found("blocks")
    assert f"Lake: The lake at {uri} cannot be opened: " in blocks
    assert "Check SOFTCART_LAKE_URI." in blocks


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("MASTER", "sparc://x", "SOFTCART_SPARK_MASTER must be local[*], spark://host:port or"),
        ("MASTER", "yarn", "SOFTCART_SPARK_MASTER=yarn needs HADOOP_CONF_DIR"),
        ("MEMORY", "lots", "SOFTCART_SPARK_MEMORY must be a size such as 2g"),
    ],
)
def test_settings_of_spark_that_cannot_work_block(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("HADOOP_CONF_DIR", "YARN_CONF_DIR"):
        monkeypatch.delenv(folder, raising=False)
    monkeypatch.setenv(f"SOFTCART_SPARK_{name}", value)
    assert said in _found("blocks")


def test_a_spark_cluster_and_a_metastore_that_do_not_answer_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = server.free_port()
    monkeypatch.setenv("SOFTCART_SPARK_MASTER", f"spark://127.0.0.1:{port}")
    monkeypatch.setenv("SOFTCART_HIVE_METASTORE_URI", f"thrift://127.0.0.1:{port}")
    assert f"Spark: 127.0.0.1:{port} cannot be reached" in _found("blocks")
    assert f"Lake: thrift://127.0.0.1:{port} cannot be reached" in _found("note")


def test_one_spark_master_of_several_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as master:
        addresses = f"127.0.0.1:{server.free_port()},127.0.0.1:{master.getsockname()[1]}"
        monkeypatch.setenv("SOFTCART_SPARK_MASTER", f"spark://{addresses}")
        assert f"spark://{addresses}, 2g for the driver" in _found("ok")

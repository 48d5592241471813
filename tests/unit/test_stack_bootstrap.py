"""bootstrap.sh where packages are missing: what it installs, and what it says where it may not.

It runs in a folder of its own with a PATH of stand-ins. It installs nothing and touches no clone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from softcart_assets.lines.model import Source
from softcart_assets.stack.derived import dotenv

REPOSITORY = Path(__file__).parents[2]
TOOLS = (
    *("bash", "cat", "chmod", "cp", "dirname", "env", "flock", "grep", "head", "mkdir", "rm"),
    *("sed", "sha256sum", "sleep", "tail"),
)


class Machine:
    """A clone on a machine where only some programs exist."""

    def __init__(self, folder: Path) -> None:
        self.clone = folder / "clone"
        self.bin = folder / "bin"
        self.clone.mkdir()
        self.bin.mkdir()
        for name in ("bootstrap.sh", "requirements.lock", "pyproject.toml", "setup.py"):
            shutil.copy(REPOSITORY / name, self.clone)
        script = self.clone / "bootstrap.sh"
        folders = ":/usr/local/sbin:/usr/sbin"  # this machine's servers, which are not among ours
        assert folders in script.read_text()
        self.driver = folder / "postgresql.jar"
        self.driver.touch()
        text = script.read_text().replace(folders, "")
        script.write_text(text.replace("/usr/share/java/postgresql.jar", str(self.driver)))
        self.declare("one", "two")
        codec = self.clone / "softcart_assets" / "ingestion" / "codec"
        codec.mkdir(parents=True)
        for name in ("logrows.pyx", "builders.pxd", "primitives.h"):
            (codec / name).touch()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))
        self.add("python3", f'exec {sys.executable} "$@"')
        for name in ("gcc", "pkg-config", "mysqld", "chromium", "chromedriver"):
            self.add(name, "exit 0")
        self.add("java", "echo 'openjdk version \"17.0.15\"' >&2")

    def add(self, name: str, script: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)

    def declare(self, *names: str) -> None:
        """MySQL sources of these names, and a MongoDB source."""
        sources = [Source(name, "mysql", "", ()) for name in names]
        text = dotenv([*sources, Source("papers", "mongodb", "", ())])
        (self.clone / ".env.example").write_text(text)

    def remove(self, *names: str) -> None:
        for name in names:
            (self.bin / name).unlink()

    def bootstrap(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            ["./bootstrap.sh", *arguments],
            cwd=self.clone,
            env={"PATH": str(self.bin), "HOME": str(self.clone), **variables},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_apt_it_says_what_is_missing_and_how_to_do_without(machine: Machine) -> None:
    machine.remove("java", "gcc", "chromium")
    result = machine.bootstrap("--tests")
    assert result.returncode == 1
    assert (
        "could not be installed: openjdk-17-jre-headless chromium gcc libc6-dev\n" in result.stdout
    )
    assert "Reason: there is no apt-get here." in result.stdout
    assert (
        "sudo apt-get install --no-install-recommends openjdk-17-jre-headless chromium"
        in result.stdout
    )
    assert "openjdk-17-jre-headless: set JAVA_HOME to a Java 17 or newer" in result.stdout


def test_the_browser_is_for_tests_only(machine: Machine) -> None:
    machine.remove("java", "chromium")
    assert "chromium" not in machine.bootstrap().stdout


def test_old_java_is_replaced(machine: Machine) -> None:
    machine.add("java", "echo 'openjdk version \"11.0.22\"' >&2")
    assert "could not be installed: openjdk-17-jre-headless\n" in machine.bootstrap().stdout


def test_the_local_metastore_needs_javas_driver_for_postgresql(machine: Machine) -> None:
    machine.driver.unlink()
    result = machine.bootstrap().stdout
    assert "could not be installed: libpostgresql-jdbc-java\n" in result
    assert "metastore of your own with SOFTCART_HIVE_METASTORE_URI" in result
    named = machine.bootstrap(SOFTCART_HIVE_METASTORE_URI="thrift://theirs:9083").stdout
    assert "could not be installed" not in named


def test_without_python_its_packages_are_named(machine: Machine) -> None:
    machine.add("python3", "exit 1")
    assert (
        "could not be installed: python3 python3-venv python3-dev\n" in machine.bootstrap().stdout
    )


def test_what_is_missing_is_installed_without_starting_services(
    machine: Machine, tmp_path: Path
) -> None:
    machine.remove("java")
    calls = tmp_path / "calls"
    machine.add("sudo", 'while [[ $1 == -n ]]; do shift; done; exec "$@"')
    machine.add("true", "exit 0")
    machine.add("apt-get", f'echo "$@" >>{calls}')
    result = machine.bootstrap()
    update, install = calls.read_text().splitlines()
    assert update.endswith("update")
    assert install.endswith("install --yes --no-install-recommends openjdk-17-jre-headless")
    assert "DPkg::Lock::Timeout=300" in install
    # The stand-in has installed nothing, which is noticed.
    assert result.returncode == 1
    assert "PATH or JAVA_HOME leads to other programs" in result.stdout


def test_a_locked_package_list_is_waited_for(machine: Machine, tmp_path: Path) -> None:
    machine.remove("java")
    machine.add("sudo", 'while [[ $1 == -n ]]; do shift; done; exec "$@"')
    machine.add("true", "exit 0")
    machine.add(
        "apt-get",
        f"""[[ $* != *update* || -f {tmp_path}/tried ]] && exit 0
        >{tmp_path}/tried; echo 'E: Could not get lock /var/lib/apt/lists/lock.'; exit 100""",
    )
    assert "leads to other programs" in machine.bootstrap().stdout


@pytest.mark.skipif(os.geteuid() == 0, reason="root needs no sudo")
def test_refused_sudo_is_the_reason(machine: Machine) -> None:
    machine.remove("java")
    machine.add("apt-get", "exit 0")
    machine.add("sudo", "exit 1")
    assert "Reason: apt-get needs root, and `sudo -n` is refused." in machine.bootstrap().stdout


def test_a_failed_installation_names_the_packages(machine: Machine) -> None:
    machine.remove("java")
    machine.add("sudo", 'while [[ $1 == -n ]]; do shift; done; exec "$@"')
    machine.add("true", "exit 0")
    machine.add("apt-get", "echo 'E: no network'; exit 100")
    result = machine.bootstrap()
    assert result.returncode == 1
    assert "apt-get install failed, see above; apt-get update said: E: no network" in result.stdout


def test_mysql_is_needed_for_every_source_that_is_not_named(machine: Machine) -> None:
    # Without gcc it stops before it makes an environment.
    machine.remove("mysqld", "gcc")
    told = machine.bootstrap().stdout
    assert "could not be installed: mariadb-server-core mariadb-client-core gcc" in told
    assert "with SOFTCART_ONE_HOST SOFTCART_TWO_HOST (the tests need a local one)" in told
    (machine.clone / ".env").write_text("# here\nexport SOFTCART_TWO_HOST=db\nSOFTCART_ONE_HOST=\n")
    assert "with SOFTCART_ONE_HOST (the tests" in machine.bootstrap().stdout
    assert "mariadb" not in machine.bootstrap(SOFTCART_ONE_HOST="db").stdout
    assert "mariadb-server-core" in machine.bootstrap("--tests", SOFTCART_ONE_HOST="db").stdout


def test_mysql_is_not_needed_without_a_source(machine: Machine) -> None:
    machine.remove("mysqld", "java")
    machine.declare()
    assert "could not be installed: openjdk-17-jre-headless\n" in machine.bootstrap().stdout


def test_a_moved_clone_gets_a_new_environment(machine: Machine, tmp_path: Path) -> None:
    """The scripts in .venv/bin name the path in which they were made."""
    made = tmp_path / "made"
    machine.add(
        "python3",
        f"""[[ "$1 $2" == "-m venv" ]] || exec {sys.executable} "$@"
        mkdir -p .venv/bin
        echo "command = python3 -m venv $PWD/.venv" >.venv/pyvenv.cfg
        echo '#!/bin/bash' >.venv/bin/python
        chmod +x .venv/bin/python
        cp .venv/bin/python .venv/bin/uv
        echo "$PWD" >>{made}""",
    )
    (machine.clone / "softcart_assets/ingestion/codec/logrows.abi.so").touch()
    first = machine.clone
    for _ in range(2):
        assert machine.bootstrap().returncode == 0
    machine.clone = first.rename(tmp_path / "Klon [für (zwei)]")
    for _ in range(2):
        assert machine.bootstrap().returncode == 0
    assert made.read_text().splitlines() == [str(first), str(machine.clone)]

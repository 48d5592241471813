"""bootstrap.sh where packages are missing: what it installs, and what it says where it may not.

It runs in a folder of its own with a PATH of stand-ins. It installs nothing and touches no clone.
"""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from softcart_assets.lines.model import Source
from softcart_assets.stack.derived import dotenv

REPOSITORY = Path(__file__).parents[2]
TOOLS = (
    *("bash", "cat", "chmod", "cp", "df", "dirname", "env", "flock", "grep", "head", "id"),
    *("mkdir", "rm"),
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
        settings = self.clone / "softcart_assets" / "stack" / "no_telemetry.pth"
        settings.parent.mkdir()
        settings.touch()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))
        self.add("python3", f'exec {sys.executable} "$@"')
        for name in ("gcc", "mysqld", "chromium", "chromedriver"):
            self.add(name, "exit 0")
        self.add("java", "echo 'openjdk version \"17.0.15\"' >&2")

    def add(self, name: str, script: str) -> None:
        path = self.bin / name
        # It may be a link to the machine's own program, which is not ours to write to.
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)

    def declare(self, *names: str) -> None:
        """MySQL sources of these names, and a MongoDB source."""
        sources = [Source(name, "mysql", "", ()) for name in names]
        text = dotenv([*sources, Source("papers", "mongodb", "", ())])
        (self.clone / ".env.example").write_text(text)

    def stand_in_for_venv(self, python: str = "") -> Path:
        """Let Python make a .venv of stand-ins. Returns the file with the folders of its clones.

        `python`: what the Python of that .venv does.
        """
        made = self.bin.with_name("made")
        script = self.bin.with_name("stand-in")
        script.write_text(f"#!/bin/bash\n{python}\n")
        script.chmod(0o755)
        self.add(
            "python3",
            f"""[[ "$1 $2" == "-m venv" ]] || exec {sys.executable} "$@"
            mkdir -p .venv/bin .venv/lib/python3.11/site-packages
            echo "command = python3 -m venv $PWD/.venv" >.venv/pyvenv.cfg
            cp {script} .venv/bin/python
            cp {script} .venv/bin/uv
            echo "$PWD" >>{made}""",
        )
        (self.clone / "softcart_assets/ingestion/codec/logrows.abi.so").touch()
        return made

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
    missing = "openjdk-17-jre-headless chromium gcc libc6-dev libssl-dev"
    assert f"could not be installed: {missing}\n" in result.stdout
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
    machine.stand_in_for_venv()
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


def test_the_doctor_works_before_set_up_and_installs_nothing(machine: Machine) -> None:
    machine.remove("java")
    result = machine.bootstrap("doctor")
    assert result.returncode == 1
    assert "✗ Debian packages: openjdk-17-jre-headless\n" in result.stdout
    assert "They cannot be installed: there is no apt-get here." in result.stdout
    assert "openjdk-17-jre-headless: set JAVA_HOME to a Java 17 or newer" in result.stdout
    assert "✗ .venv: not set up yet. `make install` does it.\n" in result.stdout
    assert not (machine.clone / ".venv").exists()


def test_the_doctor_looks_at_the_disk_and_at_the_way_to_the_packages(machine: Machine) -> None:
    machine.add("df", "echo; echo '/dev/disk 9999999 9999999 2097151 99% /'")
    machine.add(
        "python3",
        f"""[[ "$*" != *"index versions"* ]] || exit 1
        [[ "$*" != *"import pip"* ]] || exit 0
        exec {sys.executable} "$@\"""",
    )
    told = machine.bootstrap("doctor").stdout
    assert f"✗ Disk: 1 GiB free in {machine.clone}, and set-up needs 3" in told
    assert "✗ Package source: pip does not reach it. Check the network, HTTPS_PROXY" in told


def test_the_doctor_goes_on_with_the_platform_when_it_is_set_up(machine: Machine) -> None:
    machine.stand_in_for_venv()
    assert machine.bootstrap().returncode == 0
    doctor = machine.clone / ".venv/bin/softcart"
    doctor.write_text('#!/bin/bash\necho "softcart $*"\n')
    doctor.chmod(0o755)
    result = machine.bootstrap("doctor")
    assert result.stdout == "✓ Debian packages: none is missing\nsoftcart doctor\n"
    assert result.returncode == 0
    machine.remove("java")
    result = machine.bootstrap("doctor")
    assert "✗ Debian packages: openjdk-17-jre-headless\n" in result.stdout
    assert result.stdout.endswith("\nsoftcart doctor\n")
    assert result.returncode == 1
    machine.add("java", "echo 'openjdk version \"17.0.15\"' >&2")
    doctor.write_text("#!/bin/bash\nexit 3\n")
    assert machine.bootstrap("doctor").returncode == 3


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("OSError: [Errno 28] No space left on device", "the disk is full. Make room for 3 GiB"),
        ("error sending request for url: dns error", "the package source cannot be reached."),
        ("error: Hash mismatch for faker", "a package source has another file than"),
        ("error: command 'gcc' failed", "a package could not be compiled"),
        ("something new", "see above"),
    ],
)
def test_a_failed_set_up_says_why(machine: Machine, output: str, reason: str) -> None:
    machine.stand_in_for_venv(f'[[ "$1" != -m ]] || {{ echo "{output}" >&2; exit 1; }}')
    result = machine.bootstrap()
    assert result.returncode == 1
    assert f"{output}\nSetting up .venv failed: {reason}" in result.stdout
    assert "`make doctor` looks at what set-up needs." in result.stdout
    assert machine.bootstrap().returncode == 1, "nothing half-made counts as set up"


@pytest.mark.skipif(os.geteuid() == 0, reason="root needs no sudo")
def test_sudo_asks_for_its_password_where_there_is_a_terminal(
    machine: Machine, tmp_path: Path
) -> None:
    machine.remove("java")
    calls = tmp_path / "calls"
    machine.add(
        "sudo",
        f"""echo "$*" >>{calls}
        [[ $1 != -n && -t 0 ]] || exit 1
        [[ $1 == -v ]] || exec "$@\"""",
    )
    machine.add("apt-get", "exit 0")
    terminal, ours = pty.openpty()
    result = subprocess.run(
        ["./bootstrap.sh"],
        cwd=machine.clone,
        env={"PATH": str(machine.bin), "HOME": str(machine.clone)},
        stdin=ours,
        stdout=ours,
        stderr=ours,
    )
    told = os.read(terminal, 10_000).decode()
    assert "openjdk-17-jre-headless. sudo asks for your password." in told
    first, second, update, install = calls.read_text().splitlines()
    assert (first, second) == ("-n true", "-v")
    assert "apt-get" in update
    assert "apt-get" in install
    assert result.returncode == 1  # the stand-in has installed nothing


def test_a_moved_clone_gets_a_new_environment(machine: Machine, tmp_path: Path) -> None:
    """The scripts in .venv/bin name the path in which they were made."""
    made = machine.stand_in_for_venv()
    first = machine.clone
    for _ in range(2):
        assert machine.bootstrap().returncode == 0
    machine.clone = first.rename(tmp_path / "Klon [für (zwei)]")
    for _ in range(2):
        assert machine.bootstrap().returncode == 0
    assert made.read_text().splitlines() == [str(first), str(machine.clone)]

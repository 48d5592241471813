"""Java libraries that are no part of a Python package: which ones, and how they come here.

`<name>.xml` is a project of Maven's that names the libraries of a set. `<name>.sha256` pins them:
every file that Maven brings for it, with its checksum. `fetch` brings them, and uses only what has
these names and checksums. `python -m softcart_assets.jars NAME…` does the same.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
_HERE = Path(__file__).parent
_LAST_LINES = 5


class JarsError(RuntimeError):
    """Java libraries cannot be had. The message says why and what helps."""


class JarsUnavailable(JarsError):
    """Maven is not here, or it cannot fetch. Nothing is wrong with what it brings."""


def names() -> list[str]:
    """The sets that there are."""
    return sorted(file.stem for file in _HERE.glob("*.xml"))


def folder(name: str) -> Path:
    """Where the libraries of a set are on this machine, once they were fetched.

    Other checksums make it another folder. So a folder that exists is complete.
    """
    pinned = hashlib.sha256(_list(name).read_bytes()).hexdigest()[:12]
    return Path(sys.prefix) / "jars" / f"{name}-{pinned}"


def fetch(name: str) -> Path:
    """Bring the libraries of a set with Maven, unless they are here. Returns their folder.

    The first time takes a minute or so. Raises `JarsError`.
    """
    target = folder(name)
    if target.is_dir():
        return target
    target.parent.mkdir(exist_ok=True)
    with (target.parent / f"{name}.lock").open("w") as lock:
        # One at a time: they would write the same files.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            found = _download(name)
            _check(name, _digests(found))
            # Those of older lists.
            for old in target.parent.glob(f"{name}-{'[0-9a-f]' * 12}"):
                shutil.rmtree(old)
            found.rename(target)
    return target


def pin(name: str) -> None:
    """Write the list of a set anew: what Maven brings now counts from then on."""
    found = sorted(_digests(_download(name)).items())
    _list(name).write_text("".join(f"{digest}  {file}\n" for file, digest in found))


def _list(name: str) -> Path:
    return _HERE / f"{name}.sha256"


def _download(name: str) -> Path:
    """Let Maven bring a set. Returns the folder, which the next call empties."""
    maven = shutil.which("mvn")
    if not maven:
        raise JarsUnavailable(
            f"Maven fetches the Java libraries for {name}, and there is no mvn here. Install "
            "Debian's package maven."
        )
    target = Path(sys.prefix) / "jars" / f"unchecked.{name}"
    shutil.rmtree(target, ignore_errors=True)
    command = [maven, "--batch-mode", "--quiet", f"--file={_HERE / f'{name}.xml'}"]
    command += [f"{_PLUGIN}:copy-dependencies", "-DincludeScope=runtime"]
    done = subprocess.run(
        [*command, f"-DoutputDirectory={target}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line.startswith("[ERROR]")]
        told = "\n".join(lines[:_LAST_LINES] or (done.stdout + done.stderr).splitlines())
        raise JarsUnavailable(
            f"Maven cannot fetch the Java libraries for {name}. Check that `mvn` reaches its "
            f"repository. It says:\n{told}"
        )
    return target


def _digests(where: Path) -> dict[str, str]:
    """The files of a folder with their SHA-256."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in where.iterdir()
        if file.suffix == ".jar"
    }


def _check(name: str, found: Mapping[str, str]) -> None:
    """Raise `JarsError` if these files are not exactly those of the list."""
    lines = (line.split() for line in _list(name).read_text().splitlines())
    pinned = {file: digest for digest, file in lines}
    wrong = sorted(file for file in {*pinned, *found} if pinned.get(file) != found.get(file))
    if wrong:
        raise JarsError(
            f"Maven has brought other Java libraries than {_list(name).name} pins, so none is "
            f"used: {', '.join(wrong)}. Find out why before you use them."
        )

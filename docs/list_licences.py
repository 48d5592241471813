"""Writes the list of all packages with their licences: docs/licences.md. `make lock` runs it.

The licences come from the packages themselves. What is copyleft may be changed and passed on only
under its own terms, and those reach what is linked with it. So it is listed first, with its use.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
LIST = REPOSITORY / "docs" / "licences.md"
LOCK = REPOSITORY / "requirements.lock"

COPYLEFT = {
    "secantusdb": "Runs as a process of its own, and nothing imports it.",
}
"""Packages under the GPL without any other choice, and how they are used."""
CHOICES = {"text-unidecode": "Artistic License"}
"""Packages that offer the GPL and another licence, and the one that is chosen."""
UNTOLD = {"hdfs-native": "Apache-2.0"}
"""Packages that say nothing of their licence themselves, and what their projects say."""

_HEAD = """\
# Licences of the packages

`make lock` writes this list from what the packages say of themselves. SoftCart's own licence is
Apache-2.0.

Weak copyleft (LGPL, MPL) covers the package itself. Its files are used unchanged, as separate
packages.
"""


def locked() -> list[str]:
    """The names of the packages in the lock."""
    # Some have two versions, for different versions of Python.
    return list(dict.fromkeys(re.findall(r"^([a-z0-9.-]+)==", LOCK.read_text(), re.MULTILINE)))


def licence(package: Distribution) -> str:
    """What a package says of its licence, in a few words."""
    told = package.metadata
    names = [
        each.rpartition(" :: ")[2]
        for each in told.get_all("Classifier") or ()
        if each.startswith("License :: ") and not each.endswith("OSI Approved")
    ]
    # Some packages have the whole text there.
    first = (told.get("License") or "").strip().partition("\n")[0]
    return (
        CHOICES.get(package.name)
        or told.get("License-Expression")
        or ", ".join(names)
        or first[:60]
        or UNTOLD.get(package.name)
        or "not told"
    )


def is_copyleft(licence: str) -> bool:
    """Whether a licence is the GPL or AGPL, and not the LGPL."""
    return bool(re.search(r"(?<!L)A?GPL|(?<!Lesser )General Public", licence.replace("LGPL", "")))


def installed() -> Iterator[Distribution]:
    """The packages of the lock that are installed here. Others are for other systems."""
    for name in locked():
        try:
            yield distribution(name)
        except PackageNotFoundError:
            continue


def text() -> str:
    """The whole list."""
    packages = list(installed())
    lines = [f"- **{name}**: {use}" for name, use in COPYLEFT.items()]
    # Without versions: the lock has them, and licences hardly ever change.
    rows = [f"| {each.name.lower()} | {licence(each).replace('|', ',')} |" for each in packages]
    table = ["| package | licence |", "|---|---|", *rows]
    return "\n".join([_HEAD, "## Copyleft", "", *lines, "", "## All", "", *table, ""])


if __name__ == "__main__":
    LIST.write_text(text())

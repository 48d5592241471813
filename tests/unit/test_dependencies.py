"""Every package that the code imports is named in requirements.in or requirements-dev.in. The lock
has its hash, and the list has its licence.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest

from docs import audit_packages, list_licences

REPOSITORY = Path(__file__).parents[2]
LOCK_OF_SUPERSET = REPOSITORY / "softcart_assets/stack/in_superset/requirements.lock"
OURS = {"softcart_assets", "seed_data", "spark", "benchmarks", "tests", "support", "docs"}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _named(*files: str) -> set[str]:
    lines = "\n".join((REPOSITORY / file).read_text() for file in files).splitlines()
    return {_canonical(re.split(r"[\[=<>! ]", line)[0]) for line in lines if line[:1] not in "#"}


def _imported(files: Iterable[Path]) -> set[str]:
    """The top-level modules that these files import, without the standard library's and ours."""
    found = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - OURS


def _missing(imported: Iterable[str], named: set[str]) -> list[str]:
    """The modules that no named package brings."""
    brought_by = packages_distributions()
    return sorted(
        module
        for module in imported
        if not named & {_canonical(name) for name in brought_by.get(module, [])}
    )


def _files(*folders: str) -> list[Path]:
    return [file for folder in folders for file in (REPOSITORY / folder).rglob("*.py")]


def test_what_the_project_imports_is_in_requirements_in() -> None:
    # Superset has an environment of its own, with a lock of its own.
    files = _files("softcart_assets", "seed_data", "spark")
    imported = _imported(file for file in files if file.parent.name != "in_superset")
    assert {"dagster", "jinja2", "dotenv"} <= imported
    assert _missing(imported, _named("requirements.in")) == []


def test_what_tests_and_benchmarks_import_is_in_either_file() -> None:
    # The peers have environments of their own, each with a file of requirements.
    benchmarks = [file for file in _files("benchmarks") if file.parent.name != "peers"]
    imported = _imported([*_files("tests"), *benchmarks])
    assert "pytest" in imported
    assert _missing(imported, _named("requirements.in", "requirements-dev.in")) == []


def test_a_package_that_is_not_named_is_found(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text("def late():\n    import yaml.nodes\n    from dotenv import load_dotenv\n")
    assert _missing(_imported([file]), {"pyyaml"}) == ["dotenv"]


def test_the_installed_project_depends_on_what_requirements_in_names() -> None:
    dependencies = requires("softcart") or []
    installed_with = {
        _canonical(re.split(r"[\[=<>!; ]", each)[0]) for each in dependencies if "extra" not in each
    }
    assert installed_with == _named("requirements.in")


@pytest.mark.parametrize("file", [list_licences.LOCK, LOCK_OF_SUPERSET], ids=["ours", "superset"])
def test_everything_in_the_lock_has_a_hash_and_no_host(file: Path) -> None:
    lock = file.read_text()
    packages = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)[1:]
    assert len(packages) > 150
    assert [each for each in packages if "--hash=sha256:" not in each] == []
    # Package sources are the business of whoever installs.
    assert "://" not in lock
    assert "--index" not in lock


def test_the_installer_installs_nothing_that_the_lock_does_not_vouch_for() -> None:
    for name in ("bootstrap.sh", "docker/Dockerfile", "docker/superset.Dockerfile"):
        commands = (REPOSITORY / name).read_text().replace("\\\n", " ").splitlines()
        installing = [line for line in commands if re.search(r"uv pip sync|pip install", line)]
        # Our own package has nothing to compare with. Its dependencies are left out.
        foreign = [line for line in installing if "--editable ." not in line]
        assert len(foreign) >= 1
        assert [line for line in foreign if "--require-hashes" not in line] == []
        assert all("--no-deps" in line for line in installing if line not in foreign)


def test_the_list_of_licences_is_up_to_date() -> None:
    """`make lock` writes it; other systems have a few packages more."""
    listed = list_licences.LIST.read_text().splitlines()
    assert [line for line in list_licences.text().splitlines() if line not in listed] == []


def test_what_is_copyleft_is_known_and_runs_as_a_process_of_its_own() -> None:
    copyleft = {
        _canonical(package.name)
        for package in list_licences.installed()
        if list_licences.is_copyleft(list_licences.licence(package))
    }
    assert copyleft == set(list_licences.COPYLEFT)
    brought = packages_distributions()
    imported = _imported(_files("softcart_assets", "seed_data", "spark"))
    names = {_canonical(name) for module in imported for name in brought.get(module, [])}
    assert imported >= {"pymysql", "psycopg"}
    assert not names & copyleft


@pytest.mark.parametrize(
    ("licence", "is_copyleft"),
    [
        ("GPL-2.0-or-later", True),
        ("GNU General Public License v2 (GPLv2)", True),
        ("AGPL-3.0-only", True),
        ("GNU Affero General Public License v3", True),
        ("LGPL-3.0-only", False),
        ("GNU Library or Lesser General Public License (LGPL)", False),
        ("MPL-2.0", False),
    ],
)
def test_copyleft_is_told_from_weak_copyleft(licence: str, is_copyleft: bool) -> None:
    assert list_licences.is_copyleft(licence) == is_copyleft


FINE = {"name": "fine", "version": "1", "vulns": []}
BAD = {"name": "bad", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}
UNKNOWN = {"name": "unknown", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        ([FINE], 0, "1 packages have no known vulnerabilities."),
        ([FINE, BAD], 1, "bad 1: CVE-1, mended in 2"),
        ([FINE, UNKNOWN], audit_packages.UNKNOWN, "Nothing is known of 1 of 2 packages"),
        ([BAD, UNKNOWN], 1, "bad 1: CVE-1, mended in 2"),
        (None, audit_packages.UNKNOWN, "cannot be reached, so nothing is known: no route"),
    ],
)
def test_an_audit_that_got_no_answer_says_so(answer, code, said, monkeypatch, capsys) -> None:
    def pip_audit(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        told = "" if answer is None else json.dumps({"dependencies": answer})
        return subprocess.CompletedProcess(command, 1, told, "trace\nno route\n")

    monkeypatch.setattr(subprocess, "run", pip_audit)
    assert audit_packages.audit() == code
    assert said in "".join(capsys.readouterr())

"""Every package that the code imports is named in requirements.in or requirements-dev.in."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable
from importlib.metadata import packages_distributions, requires
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
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
    imported = _imported(_files("softcart_assets", "seed_data", "spark"))
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

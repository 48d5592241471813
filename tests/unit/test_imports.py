"""No module imports itself by way of others, and none is imported late to hide that it would."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp

from docs import draw_packages
from softcart_assets.paths import REPOSITORY

PACKAGES = ("softcart_assets", "seed_data", "spark")


def cycle(imports: Mapping[str, Iterable[str]]) -> list[str]:
    """The modules of a cycle, if there is one."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = grimp.build_graph(*PACKAGES)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    assert len(imports) > 200
    assert cycle(imports) == []


def test_a_cycle_is_noticed() -> None:
    assert set(cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == {"a", "b", "c"}
    assert cycle({"a": {"b"}, "b": {"c"}}) == []


def late_imports(path: Path) -> Iterator[str]:
    """The modules of ours that a function of this file imports."""
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGES):
                    yield node.module or ""


def test_what_moves_data_imports_its_own_modules_at_the_top() -> None:
    late = {
        f"{path.relative_to(REPOSITORY)}: {module}"
        for folder in ("ingestion", "publishing", "audits", "extracts")
        for path in (REPOSITORY / "softcart_assets" / folder).rglob("*.py")
        for module in late_imports(path)
        # What the registry loads of a kind; it imports the client library when that is used.
        if path.name != "connector.py"
    }
    assert late == set()


def test_the_picture_of_the_packages_is_up_to_date() -> None:
    """`make picture` draws it; a package that the contracts do not name would be missing."""
    drawn = {name for layer in draw_packages.layers() for name in layer}
    there = {path.stem for path in (REPOSITORY / "softcart_assets").iterdir()}
    packages = {name for name in there if not name.startswith("_")} | {"seed_data", "spark"}
    assert drawn == packages
    assert draw_packages.PICTURE.read_text() == draw_packages.draw()

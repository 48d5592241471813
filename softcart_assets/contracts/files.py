"""The files of the contracts: comparing them with what there is, and writing them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from softcart_assets.contracts.odcs import Product, document
from softcart_assets.contracts.versions import FIRST, Change, changes, heaviest, raised
from softcart_assets.paths import REPOSITORY

FOLDER = REPOSITORY / "contracts"
_HEADING = "# Written by `softcart contracts write`; do not edit.\n"


class BreakingChange(RuntimeError):
    """A contract would break those who rely on it, and nobody said that it may."""


@dataclass(frozen=True)
class Difference:
    """What differs between a contract and what there is. `product`: None if there is none."""

    path: str
    changes: list[Change]
    product: Product | None


def differences(products: Iterable[Product], folder: Path = FOLDER) -> list[Difference]:
    """The contracts that do not say what there is, those that are missing, and those of nothing."""
    found, paths = [], set()
    for product in products:
        path = f"{product.kind}/{product.name}.odcs.yaml"
        paths.add(path)
        if not (folder / path).is_file():
            found.append(Difference(path, [Change("addition", "it has no contract")], product))
            continue
        old = _read(folder / path)
        if changed := changes(old, document(product, old["version"])):
            found.append(Difference(path, changed, product))
    for file in sorted(folder.glob("*/*.odcs.yaml")):
        path = file.relative_to(folder).as_posix()
        if path not in paths:
            found.append(
                Difference(path, [Change("breaking", "it is not published any more")], None)
            )
    return found


def write(
    products: Iterable[Product], may_break: Collection[str] = (), folder: Path = FOLDER
) -> list[Difference]:
    """Write the contracts that differ, each with the version that the change asks for.

    `may_break`: the names of tables and extracts whose readers were told. Returns what differed.
    Raises `BreakingChange` for others, and writes nothing then.
    """
    found = differences(products, folder)
    refused = [
        f"  {each.path}: {change.text}"
        for each in found
        for change in each.changes
        if change.weight == "breaking" and _name(each) not in may_break
    ]
    if refused:
        raise BreakingChange(
            "People rely on these, and the changes break what they built:\n"
            + "\n".join(refused)
            + "\nUndo the changes. Or tell the readers, and name what may break: "
            "`softcart contracts write --breaking NAME`. That raises the version."
        )
    for each in found:
        file = folder / each.path
        if each.product is None:
            file.unlink()
            continue
        version = raised(_read(file)["version"], heaviest(each.changes)) if file.exists() else FIRST
        file.parent.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(
            document(each.product, version), sort_keys=False, allow_unicode=True, width=100
        )
        file.write_text(_HEADING + text, encoding="utf-8")
    return found


def _name(difference: Difference) -> str:
    return Path(difference.path).name.removesuffix(".odcs.yaml")


def _read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return found

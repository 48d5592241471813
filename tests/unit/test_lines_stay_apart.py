"""Nothing outside the folders of a line of business names the line, its sources or their
settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from softcart_assets.assembly import LINES
from softcart_assets.derive import derived_files
from softcart_assets.paths import REPOSITORY

ROOTS = ("softcart_assets", "spark", "seed_data", "dbt_project", "docker", ".ci")
FILES = ("Makefile", "bootstrap.sh", "setup.py", "pyproject.toml", "workspace.yaml")
LEFT_OUT = {"__pycache__", ".grimp_cache", "target", "logs", "dbt_packages", "build"}

PLANNED = ("shop", "inspire", "telecom", "xtec")
"""The lines of the design; those that are not there yet must not be waited for either."""


OF_LINES = [line for line in LINES if line != LINES.conformed]
"""What the lines share is no line of business: other code may name it."""


def _relations() -> set[str]:
    """The names of the models and outputs of all lines, such as fct_order_lines."""
    models = REPOSITORY / "dbt_project" / "models"
    return {
        *(file.stem for line in OF_LINES for file in models.glob(f"warehouse/{line.name}/*.sql")),
        *(
            file.stem
            for source in LINES.sources
            for file in models.glob(f"staging/{source.name}/*.sql")
        ),
        *(each.name for line in OF_LINES for each in (*line.published, *line.jobs, *line.extracts)),
    }


def _names() -> re.Pattern[str]:
    lines = {line.name for line in OF_LINES} | set(PLANNED)
    words = "|".join(sorted(lines))
    prefixes = "|".join(sorted(source.env_prefix for source in LINES.sources))
    titles = "|".join(sorted(word.capitalize() for word in lines))
    # The name of a source alone may be a word of English, such as catalog.
    sources = "|".join(sorted(source.name for source in LINES.sources))
    relations = "|".join(sorted(_relations()))
    # A word of its own or a part of a name: shop, stg_shop__orders, TelecomLoad.
    return re.compile(
        # The application of a line is a package, which the import contracts name: inspire_app.
        rf"(?i:(?<![a-z])({words})(?!_app\b|[a-z]))|({titles})(?=[A-Z])|({prefixes})_"
        rf"|(?<![a-z])(raw|lake|stg|int)_({sources})(?![a-z])|\b({relations})\b",
    )


def _own_folders() -> set[str]:
    lines = {line.name for line in OF_LINES}
    return lines | {f"{name}_app" for name in PLANNED} | {source.name for source in LINES.sources}


def _shared_files() -> Iterator[Path]:
    own, derived = _own_folders(), set(derived_files())
    paths = [path for root in ROOTS for path in (REPOSITORY / root).rglob("*")]
    for path in (*paths, *(REPOSITORY / name for name in FILES)):
        inside = PurePosixPath(path.relative_to(REPOSITORY).as_posix())
        folders = set(inside.parts[:-1])
        if path.is_file() and not folders & (own | LEFT_OUT) and str(inside) not in derived:
            yield path


def offences(files: Iterable[Path]) -> list[str]:
    """Each place that names a line: file, line, text."""
    names = _names()
    found = []
    for path in files:
        try:
            lines = path.read_text().splitlines()
        except UnicodeDecodeError:
            continue  # compiled
        if path.suffix in {".c", ".so"}:
            continue
        found += [
            f"{path}:{number}: {line.strip()}"
            for number, line in enumerate(lines, start=1)
            if names.search(line)
        ]
    return found


def test_shared_files_name_no_line() -> None:
    files = list(_shared_files())
    assert len(files) > 150
    assert offences(files) == []


def test_a_name_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "shared.py"
    prefix = LINES.sources[0].env_prefix
    for text in (
        *("# of the shop", "stg_shop__orders", f'"{prefix}_HOST"', "class TelecomLoad:"),
        *("raw_catalog.products", "# as in fct_payments", "`ext_top_products`"),
    ):
        file.write_text(f"first = 1\n{text}\n")
        assert offences([file]) == [f"{file}:2: {text}"]
    file.write_text("# the workshop, a shopping list, the catalog of the server, fct_paymentsx\n")
    assert offences([file]) == []

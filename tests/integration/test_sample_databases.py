"""Databases that were not made for this project, of the kind that public samples are: declared in
one line, and all of it arrives.

They stand in `tests/support/samples/`, each with a round of changes behind the line `-- changes`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support.equality import assert_equals_source, mysql_types
from support.ingestion import load_all

from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion.connectors.mysql.discover import Strategy, discover
from softcart_assets.ingestion.proof.verify import compare

SAMPLES = Path(__file__).resolve().parents[1] / "support" / "samples"


def run_script(mysql: MySQLConnection, script: str) -> None:
    statements = "\n".join(line for line in script.splitlines() if not line.startswith("-- "))
    with mysql.connect(autocommit=True) as connection:
        for statement in filter(str.strip, statements.split(";\n")):
            connection.query(statement.encode())


@pytest.mark.parametrize("strategy", ["snapshot", "cdc"])
@pytest.mark.parametrize(
    ("sample", "quarantined"),
    [
        ("film_rental", (0, 0)),
        (
            "payroll",
            (7, 4),
        ),  # zero and partial dates, and a text with a NUL character; the changes mend some
        ("world", (0, 0)),
    ],
)
def test_a_database_that_was_not_made_for_us_arrives_whole(
    any_mysql: MySQLConnection,
    postgres: PostgresConnection,
    lake: str,
    sample: str,
    quarantined: tuple[int, int],
    strategy: Strategy,
) -> None:
    setup, changes = (SAMPLES / f"{sample}.sql").read_text().split("\n-- changes\n")
    run_script(any_mysql, setup)
    source = discover(sample, any_mysql, views=True, strategy=strategy)
    for script, expected in (("", quarantined[0]), (changes, quarantined[1]), ("", quarantined[1])):
        run_script(any_mysql, script)
        results = load_all(source, any_mysql, postgres, lake)
        assert results.keys() == {table.name for table in source.tables}
        assert sum(result.quarantined for result in results.values()) == expected
        for table in source.tables:
            assert_equals_source(source, any_mysql, postgres, lake, table.name)
            comparison = compare(source, postgres, table.name)
            assert comparison.is_equal, comparison
            assert len(comparison.compared) == len(mysql_types(any_mysql, table.at_source))

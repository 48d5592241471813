"""What an extract is made of, as read from its SQL."""

from dataclasses import replace

import pytest

from softcart_assets.extracts.lineage import sources, tables
from softcart_assets.lineage import ForeignTable
from softcart_assets.lines.model import Extract

PUBLISHED = {"facts", "dim_date", "a", "b"}


def extract(sql: str, *columns: str) -> Extract:
    return Extract("ext_x", "", dict.fromkeys(columns, ""), sql)


def test_a_cte_is_no_table_and_leads_to_what_it_reads():
    query = extract(
        """
        WITH days AS (SELECT f.day, sum(f.amount) AS amount FROM production.facts f GROUP BY f.day),
             named AS (SELECT d.amount, c.name FROM days d JOIN production.dim_date c
               ON c.day = d.day)
        SELECT n.name AS label, n.amount * 2 AS doubled, count(*) AS rows FROM named n GROUP BY 1, 2
        """,
        *("label", "doubled", "rows"),
    )
    assert tables(query, PUBLISHED) == ("dim_date", "facts")
    assert sources(query) == {
        "label": (("dim_date", "name"),),
        "doubled": (("facts", "amount"),),
        "rows": (),
    }


def test_the_condition_of_a_filter_counts_and_that_of_where_does_not():
    query = extract(
        """
        SELECT sum(f.amount) FILTER (WHERE f.is_late) AS late, f.amount::numeric(9, 2) AS amount
        FROM production.facts f JOIN production.dim_date d ON d.day = f.day WHERE d.is_weekend
        """,
        *("late", "amount"),
    )
    assert tables(query, PUBLISHED) == ("dim_date", "facts")
    assert sources(query) == {
        "late": (("facts", "amount"), ("facts", "is_late")),
        "amount": (("facts", "amount"),),
    }


def test_a_union_has_the_columns_of_all_its_parts():
    query = extract(
        """
        SELECT a.one AS x, 'a' AS kind FROM production.a AS a
        UNION ALL SELECT b.two, b.kind FROM production.b AS b
        """,
        *("x", "kind"),
    )
    assert tables(query, PUBLISHED) == ("a", "b")
    assert sources(query) == {"x": (("a", "one"), ("b", "two")), "kind": (("b", "kind"),)}


def test_what_an_extract_is_compared_with_counts_as_read():
    """Otherwise it would change, and nobody would compare again."""
    query = replace(
        extract("SELECT n AS x FROM production.a", "x"), totals={"x": "sum(n) FROM production.b"}
    )
    assert tables(query, PUBLISHED) == ("a", "b")
    assert sources(query) == {"x": (("a", "n"),)}
    foreign = replace(query, totals={"x": "sum(n) FROM warehouse.b"})
    with pytest.raises(ForeignTable, match=r"warehouse\.b"):
        tables(foreign, PUBLISHED)


@pytest.mark.parametrize(
    ("sql", "foreign"),
    [
        ("SELECT x FROM warehouse.facts", "warehouse.facts"),
        ("SELECT x FROM facts", "facts"),
        ("SELECT x FROM production.a WHERE y IN (SELECT y FROM staging.b)", "staging.b"),
        # A name of a CTE does not cover a table of that name in another schema.
        ("WITH a AS (SELECT x FROM production.b) SELECT x FROM raw_x.a", "raw_x.a"),
        ("SELECT x FROM production.facts JOIN production.typo USING (x)", "production.typo, which"),
    ],
)
def test_a_foreign_table_is_refused(sql, foreign):
    with pytest.raises(
        ForeignTable, match=rf"test_extract_lineage\.py:\d+: ext_x reads {foreign}.*[Pp]ublish"
    ):
        tables(extract(sql, "x"), PUBLISHED)

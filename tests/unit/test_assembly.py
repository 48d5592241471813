"""The declarations of all lines are validated together; each mistake is told with file and
remedy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import pytest
from support.pages import CALLS

from softcart_assets.assembly import LINES, DeclarationError, assemble
from softcart_assets.lines.model import (
    NONE,
    AddsUp,
    Column,
    Dashboard,
    Extract,
    Job,
    Latest,
    Line,
    Published,
    RunningTotal,
    Source,
    Table,
    Where,
)

HERE = r"tests/unit/test_assembly\.py:\d+: "

ORDERS = Table("orders", "One row per order.", ("id",), "cdc", (Column("id", NONE),))
STORE = Source("store", "mysql", "A store.", (ORDERS,))
SOUND = Line("store", "A store.", "team:store", (STORE,))


def problems(*lines: Line) -> list[str]:
    """What `assemble` finds wrong."""
    try:
        assemble(lines)
    except DeclarationError as error:
        return list(error.problems)
    return []


def with_table(**changes: object) -> Line:
    """The sound line with one table declared otherwise."""
    return with_tables(replace(ORDERS, **changes))  # type: ignore[arg-type]


def with_tables(*tables: Table, kind: str = "mysql") -> Line:
    return replace(SOUND, sources=(replace(STORE, tables=tables, kind=kind),))  # type: ignore[arg-type]


BY_ID = RunningTotal("orders_made", "Orders.", "orders", "id", {"orders_counted": "*"})


def with_totals(*totals: RunningTotal | Latest, **changes: object) -> Line:
    """The sound line with totals. `changes` make the first one otherwise."""
    first = replace(totals[0] if totals else BY_ID, **changes)  # type: ignore[arg-type]
    running = [each for each in (first, *totals[1:]) if isinstance(each, RunningTotal)]
    latest = [each for each in (first, *totals[1:]) if isinstance(each, Latest)]
    source = replace(STORE, totals=tuple(running), latest=tuple(latest))
    return replace(SOUND, sources=(source,))


def named(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, NONE) for name in names)


def test_the_lines_of_the_project_are_sound() -> None:
    assert assemble(LINES) == LINES
    assert problems(SOUND) == []


MISTAKES: dict[str, tuple[Iterable[Line], str]] = {
    "person by no column": (
        [with_table(person={"buyer": "email"})],
        "finds people by 'buyer', which is not among its columns",
    ),
    "person by what is not declared": (
        [with_table(person={"id": "store.buyers.id"})],
        "finds people by 'id', which is to be 'store.buyers.id'. No source declares that",
    ),
    "person by a table without people": (
        [
            with_tables(
                ORDERS,
                Table("b", "", ("id",), "cdc", named("id"), person={"id": "store.orders.id"}),
            )
        ],
        "finds people by 'store.orders.id', and store.orders does not say how",
    ),
    "person in a circle": (
        [with_table(person={"id": "store.orders.id"})],
        "finds people by way of itself",
    ),
    "two lines of one name": ([SOUND, replace(SOUND, sources=())], "two lines of business are"),
    "line name": ([replace(SOUND, name="My store")], "'My store' cannot be the name of a line"),
    "owner": ([replace(SOUND, owner="store")], "'store' cannot be an owner. Write team:<name>"),
    "two sources of one name": (
        [SOUND, Line("other", "", "team:o", (replace(STORE, prefix="SOFTCART_OTHER"),))],
        "two source systems are called 'store', see tests/unit/test_assembly.py",
    ),
    "two sources with the same settings": (
        [replace(SOUND, sources=(STORE, replace(STORE, name="b", prefix="SOFTCART_STORE")))],
        "reads its settings from SOFTCART_STORE_*, and so does another",
    ),
    "source with the name of a layer": (
        [replace(SOUND, sources=(replace(STORE, name="warehouse", prefix="SOFTCART_W"),))],
        "source 'warehouse' with the settings SOFTCART_W_* takes a name of the platform's own",
    ),
    "source with the settings of a layer": (
        [replace(SOUND, sources=(replace(STORE, prefix="SOFTCART_PRODUCTION"),))],
        "source 'store' with the settings SOFTCART_PRODUCTION_* takes a name",
    ),
    "line with the name of shared seed data": (
        [replace(SOUND, name="common")],
        "a line cannot be called 'common'",
    ),
    "source name": (
        [replace(SOUND, sources=(replace(STORE, name="Store-1"),))],
        "'Store-1' cannot be the name of a source",
    ),
    "kind": (
        [with_tables(ORDERS, kind="oracle")],
        "has the kind 'oracle'. Declare a kind that has a connector: ",
    ),
    "two tables of one name": ([with_tables(ORDERS, ORDERS)], "two tables of source 'store' are"),
    "table name": (
        [with_table(name="order lines")],
        "with source_name='order lines'",
    ),
    "incremental without cursor": (
        [with_table(strategy="incremental")],
        "table store.orders: an incremental table needs a cursor and a key",
    ),
    "history without key": ([with_table(key=(), history=True)], "history needs a key"),
    "companion": (
        [with_tables(replace(ORDERS, history=True), replace(ORDERS, name="orders_history"))],
        "its history takes the name orders_history, which is a table of the source",
    ),
    "companion whose name is too long": (
        [with_table(name="n" * 60, history=True)],
        f"its history would be called {'n' * 60}_history, which is too long",
    ),
    "table name that PostgreSQL cuts": ([with_table(name="n" * 64)], "up to 63 letters"),
    "tables that differ in case": (
        [with_tables(ORDERS, replace(ORDERS, name="Orders"))],
        "two tables of source 'store' are called 'Orders' or 'orders'",
    ),
    "companion of another source": (
        [
            with_tables(replace(ORDERS, name="eu_orders")),
            Line("b", "", "team:b", (replace(STORE, name="store_eu", prefix="SOFTCART_B"),)),
        ],
        "table store.eu_orders and a table of another source would both be copied by way of "
        "part_store_eu_orders",
    ),
    "lake tables that differ in case": (
        [with_tables(ORDERS, replace(ORDERS, name="Orders"))],
        "tables store.orders and store.Orders both need the lake table 'orders'",
    ),
    "lake table like a history": (
        [with_tables(replace(ORDERS, name="ORDERS_changes"), ORDERS)],
        "both need the lake table 'orders_changes'",
    ),
    "column twice": ([with_table(columns=named("id", "id"))], "column 'id' is declared twice"),
    "no such column": (
        [with_table(daily="ordered_at")],
        "'ordered_at' is its key, cursor, lake_partition or daily, and is not among its columns",
    ),
    "document key": (
        [with_tables(ORDERS, kind="mongodb")],
        "the key of a MongoDB document is '_id'",
    ),
    "document contract": (
        [
            with_tables(
                replace(ORDERS, key=("_id",), columns=named("_id"), contract="freeze"),
                kind="mongodb",
            )
        ],
        "a followed collection cannot have the contract 'freeze'",
    ),
    "job without module": (
        [replace(SOUND, jobs=(Job("agg_none", ("store.orders",), ("id",)),))],
        "job agg_none has no module spark/jobs/store/agg_none.py",
    ),
    "job with unknown input": (
        [replace(SOUND, jobs=(Job("agg_none", ("orders",), ("id",)),))],
        "reads 'orders', which no source declares",
    ),
    "published twice": (
        [replace(SOUND, published=(Published("dim_a"), Published("dim_a")))],
        "two published tables are called 'dim_a'",
    ),
    "sum of an unpublished table": (
        [replace(SOUND, published=(Published("a", adds_up=(AddsUp("n", "b", "n"),)),))],
        "a is to add up to 'b', which is not published",
    ),
    "total's name": ([with_totals(name="Orders made")], "cannot be the name of a total"),
    "total with a name of ours": ([with_totals(name="positions")], "the schema ods uses itself"),
    "two totals of one name": ([with_totals(BY_ID, BY_ID)], "two totals are called 'orders_made'"),
    "total of an undeclared table": (
        [with_totals(table="lines")],
        "reads the table 'lines', which the source does not declare. Declare the table",
    ),
    "total of a table without a key": (
        [
            replace(
                SOUND, sources=(replace(STORE, tables=(replace(ORDERS, key=()),), totals=(BY_ID,)),)
            )
        ],
        "needs a table with a key. Declare the key of 'orders'",
    ),
    "total of an undeclared column": (
        [with_totals(measures={"amount": "total"})],
        "reads the column 'total', which is not declared in 'orders'. Declare the column",
    ),
    "last row of an undeclared column": (
        [with_totals(Latest("last_order", "", "orders", "id", "ordered_at", ()))],
        "reads the column 'ordered_at', which is not declared in 'orders'",
    ),
    "measure with a name of ours": (
        [with_totals(measures={"bucket": "*"})],
        "has a measure called 'bucket'. Use small letters",
    ),
    "total without a measure": ([with_totals(measures={})], "has no measure. Declare one"),
    "total without a window": ([with_totals(windows=())], "has no window. Declare one"),
    "window without a time": ([with_totals(windows=("day",))], "has windows of time, but no `at`"),
    "condition without a value": (
        [with_totals(where=(Where("id", "="),))],
        "has a condition on 'id' with '=', but not one value. Give it one",
    ),
    "condition with one value of many": (
        [with_totals(where=(Where("id", "in", 5),))],
        "with 'in', but not a tuple of values. Give it one",
    ),
    "condition with a value too many": (
        [with_totals(where=(Where("id", "is null", 5),))],
        "with 'is null' and a value. Leave out the value",
    ),
    "two identities of the rows of a table": (
        [with_totals(BY_ID, replace(BY_ID, name="again", identity=("id",)))],
        "tells the events of 'orders' by ('id',), but 'orders_made' by nothing",
    ),
    "extract and dashboard of one name": (
        [
            replace(
                SOUND,
                extracts=(Extract("ext", "", {}, ""),),
                dashboards=(Dashboard("ext", "", CALLS),),
            )
        ],
        "two extracts and dashboards are called 'ext'",
    ),
}


@pytest.mark.parametrize(("lines", "expected"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_with_its_place(lines: Iterable[Line], expected: str) -> None:
    found = problems(*lines)
    assert any(expected in problem and re.match(HERE, problem) for problem in found), found


def test_all_mistakes_are_told_together() -> None:
    broken = with_table(strategy="incremental", daily="ordered_at")
    with pytest.raises(DeclarationError, match=r"(?s)needs a cursor.*is not among its columns"):
        assemble([broken])


def test_two_systems_may_have_tables_of_the_same_name() -> None:
    crm = replace(STORE, name="crm", prefix="SOFTCART_CRM")
    assert problems(replace(SOUND, sources=(STORE, crm))) == []

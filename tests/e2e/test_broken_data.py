"""The data are broken on purpose, once for every check of the project: that check fails, and only
what depends on it.

`_breakage` says what breaks a check, and which other checks fail by that. Breakages that do not get
in each other's way are made together, and Dagster runs the checks as always. A check that is added
without a breakage makes the tests fail. Last comes the project itself: a broken raw table stops all
that comes after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import groupby

import dagster as dg
import psycopg
import pytest
from support.databases import database
from support.project import Project
from support.published import LINEAGE

from softcart_assets.assembly import LINES
from softcart_assets.audits.model import Audit, Measured
from softcart_assets.components.ods import RECOUNTED
from softcart_assets.components.raw_checks import RECONCILES
from softcart_assets.connections import (
    MySQLConnection,
    PostgresConnection,
    production,
    staging,
)
from softcart_assets.dbt import read_manifest
from softcart_assets.identities.build import PROMISES
from softcart_assets.lines.model import Table
from softcart_assets.publishing import slots
from softcart_assets.publishing.suite import audits_of
from softcart_assets.publishing.tables import published_tables
from softcart_assets.runs import QUIET

SCHEMAS = {source.schema: source for source in LINES.sources}
SOURCE_OF = {
    f"stg_{source.name}__{table.name}{history}": source
    for source, table in LINES.tables()
    for history in ("", "_history")
} | {f"stg_{source.name}__deleted_rows": source for source in LINES.sources}
TABLES = {table.name: table for table in published_tables(LINES, read_manifest(), LINEAGE)}
AUDITS = audits_of(TABLES.values())
NOBODY = "'ffffffff-0000-0000-0000-000000000000'"
NONE: frozenset[str] = frozenset()
FAILED_CHECKS = ("DagsterAssetCheckFailedError", "DbtFailed")
"""The errors of ops of which checks failed."""


@dataclass(frozen=True)
class Breakage:
    """SQL that breaks `check`, and the checks `also`, each named as `layer/table:check`."""

    check: str
    sql: str
    also: frozenset[str] = frozenset()

    @property
    def fails(self) -> frozenset[str]:
        return self.also | {self.check}


def _one(table: str, condition: str = "true") -> str:
    """A condition that is true of one row, of those that meet the other one."""
    return f"ctid = (SELECT min(ctid) FROM {table} WHERE {condition})"


# Before publication: checks of raw tables, staging views and the star schema.


def _changes(line: str, of: str) -> str:
    """The check of the view that tells a line's facts what has changed."""
    view = f"int_{line}__{of}_changes"
    return f"warehouse/{view}:plausible_{view}"


_PLACES = "warehouse/int_shop__locations:plausible_int_shop__locations"
NULL_ROW_ALSO = {
    # No version in the dimension, ...
    "stg_catalog__products": {"warehouse/dim_product:current_versions_complete_dim_product"},
    "stg_shop__stores": {"warehouse/dim_store:current_versions_complete_dim_store"},
    "stg_crm__plans": {"warehouse/dim_plan:current_versions_complete_dim_plan"},
    "stg_crm__subscribers": {"warehouse/dim_subscriber:current_versions_complete_dim_subscriber"},
    # ... no row in the fact, ...
    "stg_shop__inventory": {
        "warehouse/fct_inventory_daily:fct_inventory_daily_balances",
        _changes("shop", "inventory"),
    },
    "stg_shop__order_lines": {
        "warehouse/fct_order_lines:fct_order_lines_match_source",
        "warehouse/int_shop__order_lines:primary_key_int_shop__order_lines",
        _changes("shop", "order"),
    },
    "stg_shop__payments": {
        "warehouse/fct_payments:fct_payments_match_source",
        _changes("shop", "order"),
    },
    "stg_signaling__call_records": {
        "warehouse/fct_calls:fct_calls_match_source",
        _changes("telecom", "call"),
    },
    "stg_charging__charges": {
        "warehouse/fct_charges:fct_charges_match_source",
        _changes("telecom", "charge"),
    },
    "stg_roaming__records": {
        "warehouse/fct_roaming:fct_roaming_match_source",
        _changes("telecom", "roaming"),
    },
    "stg_billing__invoice_lines": {
        "warehouse/fct_invoices:fct_invoices_match_source",
        _changes("telecom", "invoice"),
    },
    "stg_crm__interactions": {"warehouse/fct_crm_interactions:fct_crm_interactions_match_source"},
    # ... and nobody knows what an intermediate model is to do with it.
    "stg_shop__returns": {
        "warehouse/int_shop__order_line_returns:primary_key_int_shop__order_line_returns",
        "warehouse/fct_returns:fct_returns_match_source",
    },
    "stg_shop__customers_history": {
        "warehouse/int_shop__customer_versions:primary_key_int_shop__customer_versions"
    },
    "stg_shop__inventory_movements": {_changes("shop", "inventory")},
    "stg_shop__orders": {_changes("shop", "order")},
    "stg_shop__employees": {_changes("shop", "dimension")},
    "stg_shop__vendors": {_changes("shop", "dimension")},
    "stg_catalog__products_history": {_changes("shop", "dimension")},
    "stg_shop__addresses_history": {_PLACES},
    "stg_shop__stores_history": {_PLACES},
    "stg_crm__customers_history": {
        "warehouse/int_telecom__customer_versions:primary_key_int_telecom__customer_versions",
        _changes("telecom", "dimension"),
    },
    "stg_crm__subscribers_history": {_changes("telecom", "dimension")},
    "stg_crm__plans_history": {_changes("telecom", "dimension")},
    "stg_crm__subscriptions": {
        "warehouse/int_telecom__plan_periods:primary_key_int_telecom__plan_periods",
        _changes("telecom", "dimension"),
    },
    "stg_billing__invoices": {
        "warehouse/fct_invoices:invoice_totals_match_lines",
        _changes("telecom", "invoice"),
    },
    "stg_inspire__users_history": {
        "warehouse/int_inspire__customer_versions:primary_key_int_inspire__customer_versions",
        _changes("inspire", "dimension"),
    },
    "stg_inspire__user_goals": {_changes("inspire", "dimension")},
    "stg_inspire__goals": {_changes("inspire", "dimension")},
    "stg_inspire__messages": {
        "warehouse/fct_messages:fct_messages_match_source",
        _changes("inspire", "message"),
    },
    "stg_inspire__message_events": {_changes("inspire", "message")},
    "stg_inspire_docs__activity_logs": {
        "warehouse/fct_activity:fct_activity_match_source",
        _changes("inspire", "workout"),
    },
    "stg_inspire_sessions__sessions": {
        "warehouse/int_inspire__sessions:primary_key_int_inspire__sessions",
        "warehouse/fct_app_sessions:fct_app_sessions_match_source",
    },
}
"""View → the checks of other tables that fail if it has a row of nothing but nulls too many."""

LOST_ORDER_ALSO = {
    # Without its order a line has no currency, and its order's total lacks the line.
    "order_lines": {
        "staging/stg_shop__orders:order_totals_match_lines",
        "warehouse/fct_order_lines:fct_order_lines_match_source",
    },
    "payments": set(),
    # Nor is a return of a line that does not exist in the fact.
    "returns": {"warehouse/fct_order_lines:fct_order_lines_match_returns"},
}
"""Raw table → what fails beside the relationship if a row's order does not exist."""

ODD_VALUES = {
    "stg_shop__orders_device": ("orders", "device", "device IS NOT NULL"),
    "stg_shop__orders_order_status": ("orders", "status", "true"),
    "stg_shop__payments_payment_method": ("payments", "method", "true"),
    "stg_shop__payments_payment_status": ("payments", "status", "status <> 'captured'"),
    "stg_shop__inventory_movements_movement_kind": ("inventory_movements", "kind", "true"),
}
"""View and column with a list of accepted values → raw table and column, and rows on whose value no
amount depends.
"""

IMPLAUSIBLE = {
    "fct_order_lines": ("unit_price_amount = -1", NONE),
    "fct_payments": ("amount = -1", {"warehouse/fct_payments:fct_payments_match_source"}),
    "fct_calls": ("recorded_at = started_at - interval '1 second'", NONE),
    "fct_charges": ("recorded_at = event_at - interval '1 second'", NONE),
    "fct_roaming": ("recorded_at = started_at - interval '1 second'", NONE),
    "fct_invoices": ("due_date = period_start_date", NONE),
    "fct_crm_interactions": (
        "open_complaint_count = complaint_count + 1",
        {"warehouse/fct_crm_interactions:fct_crm_interactions_match_source"},
    ),
    "fct_activity": ("age_years = 120", NONE),
    "fct_app_sessions": ("ended_at = started_at - interval '1 second'", NONE),
    "fct_messages": ("attempt_count = -1", {"warehouse/fct_messages:fct_messages_match_source"}),
}
"""Fact → a change that makes one row implausible, and what else fails by it."""

ODD_AMOUNTS = {
    "order_totals_match_lines": ("raw_shop.orders", "total_amount"),
    "inventory_explained_by_movements": ("raw_shop.inventory_movements", "quantity"),
    "fct_order_lines_match_source": ("warehouse.fct_order_lines", "tax_amount"),
    "fct_order_lines_match_returns": ("warehouse.fct_order_lines", "refund_amount"),
    "fct_returns_match_source": ("warehouse.fct_returns", "refund_amount"),
    "fct_payments_match_source": ("warehouse.fct_payments", "captured_amount"),
    "fct_inventory_daily_balances": ("warehouse.fct_inventory_daily", "opening_quantity"),
    "fct_calls_match_source": ("warehouse.fct_calls", "duration_seconds"),
    "fct_charges_match_source": ("warehouse.fct_charges", "amount"),
    "fct_roaming_match_source": ("warehouse.fct_roaming", "cost_amount"),
    "fct_invoices_match_source": ("warehouse.fct_invoices", "tax_amount"),
    "invoice_totals_match_lines": ("raw_billing.invoices", "total_amount"),
    "fct_crm_interactions_match_source": ("warehouse.fct_crm_interactions", "duration_seconds"),
    "fct_activity_match_source": ("warehouse.fct_activity", "duration_seconds"),
    "fct_app_sessions_match_source": ("warehouse.fct_app_sessions", "page_views"),
    "fct_messages_match_source": ("warehouse.fct_messages", "attempt_count"),
}
"""Singular test → a table and a column that it adds up."""

ODD_AMOUNTS_ALSO = {
    "fct_invoices_match_source": {"warehouse/fct_invoices:invoice_totals_match_lines"}
}
"""Singular test → what else reads that column."""


UNSTATED = {
    f"{source.schema}/{table.name}"
    for source in LINES.sources
    if source.kind in ("mongodb", "dynamodb")
    for table in source.tables
    if table.strategy == "cdc"
}
"""After a change, only their number of rows is known until they are asked again, see
`test_mongo_changes`. Traffic changes them. `test_raw_audits` breaks tables for `equals_source`.
"""

EXPIRING = {
    f"{source.schema}/{table.name}:source_asked"
    for source in LINES.sources
    if source.kind == "dynamodb"
    for table in source.tables
}
"""Items expire at any time, and after that nothing is stated. So these warn now and then, whatever is
broken. `test_raw_audits` breaks other tables for them.
"""


def _unlike_source(table: str) -> frozenset[str]:
    """Whatever changes a raw table makes it differ from its source."""
    schema, _, name = table.partition(".")
    if f"{schema}/{name}" in UNSTATED:
        return NONE
    return frozenset({f"{schema}/{name}:equals_source"}) if schema in SCHEMAS else frozenset()


@dataclass(frozen=True)
class Check:
    """A check before publication: `name`, of the table `relation`, which is `schema`.`table`."""

    key: dg.AssetCheckKey

    @property
    def name(self) -> str:
        return self.key.name

    @property
    def full_name(self) -> str:
        return self.key.to_user_string()

    @property
    def schema(self) -> str:
        return self.key.asset_key.path[0]

    @property
    def table(self) -> str:
        return self.key.asset_key.path[1]

    @property
    def relation(self) -> str:
        return f"{self.schema}.{self.table}"

    @property
    def declared(self) -> Table:
        """The declaration of the raw table that this is, or of which this is the view."""
        if self.schema in SCHEMAS:
            return SCHEMAS[self.schema].table(self.table)
        return SOURCE_OF[self.table].table(self.table.partition("__")[2])

    def update(self, change: str, rows: str = "true", also: frozenset[str] = NONE) -> Breakage:
        """Change one row of the table, of those that meet a condition."""
        statement = f"UPDATE {self.relation} SET {change} WHERE {_one(self.relation, rows)}"
        return Breakage(self.full_name, statement, also)


def _in_loads(check: Check, change: str) -> Breakage:
    source = SCHEMAS[check.schema].name
    return Breakage(
        check.full_name,
        f"UPDATE ingestion.loads SET {change}"
        f" WHERE source = '{source}' AND table_name = '{check.table}'",
    )


def _quarantined(check: Check) -> Breakage:
    """As many rows are in quarantine as in raw, and none of them is in raw."""
    source = SCHEMAS[check.schema].name
    return Breakage(
        check.full_name,
        "INSERT INTO ingestion.quarantine (source, table_name, identity, column_name, reason, row,"
        " position, load_id, quarantined_at)"
        f" SELECT '{source}', '{check.table}', 'odd ' || n, 'odd', 'odd', '{{}}', '', '', now()"
        f" FROM generate_series(1, (SELECT count(*) FROM {check.relation})) n",
    )


def _no_latest_day(check: Check) -> Breakage:
    day = check.declared.daily
    earlier = (
        f"{day} = {day} - interval '1 day' WHERE {day}::date = (now() AT TIME ZONE 'UTC')::date - 1"
    )
    statement = f"UPDATE {check.relation} SET {earlier}"
    return Breakage(check.full_name, statement, _unlike_source(check.relation))


def _unequal(check: Check) -> Breakage:
    times = {column.name for column in check.declared.columns} & {"updated_at", "recorded_at"}
    # A session has no such time, and is on a device.
    changes = [f"{column} = {column} + interval '1 microsecond'" for column in times]
    [change] = changes or ["device = 'odd'"]
    return check.update(change, "NOT _deleted")


def _row_of_nulls(check: Check) -> Breakage:
    """A view gets a row of nothing but nulls: too many rows, and one without a key."""
    fails = {
        f"{check.schema}/{check.table}:{kind}_{check.table}"
        for kind in ("one_to_one_with_raw", "primary_key", "plausible")
    }
    return Breakage(
        check.full_name,
        f"""
        DO $$ BEGIN EXECUTE 'CREATE OR REPLACE VIEW {check.relation} AS SELECT view.* FROM ('
          || rtrim(pg_get_viewdef('{check.relation}'), ';') ||
            ') AS view FULL JOIN (SELECT) AS one_more ON false'; END $$
        """,
        frozenset(fails & _dbt_tests() | NULL_ROW_ALSO.get(check.table, set())),
    )


@cache
def _dbt_tests() -> frozenset[str]:
    """Every generic test of dbt, as Dagster calls its check."""
    nodes = read_manifest()["nodes"]
    return frozenset(
        f"{nodes[test['attached_node']]['schema']}/{nodes[test['attached_node']]['name']}:"
        f"{test['name']}"
        for test in nodes.values()
        if test["resource_type"] == "test" and test.get("attached_node")
    )


def _no_key(check: Check) -> Breakage:
    if check.table.startswith(("stg_", "int_")):
        return _row_of_nulls(check)
    if check.table.startswith("dim_"):
        return Breakage(check.full_name, f"INSERT INTO {check.relation} DEFAULT VALUES")  # nulls
    return check.update(f"{TABLES[check.table].key[0]} = NULL")


def _is_known(dimension: str) -> str:
    """The condition that leaves out the unknown member of a dimension with versions."""
    return f"({', '.join(TABLES[dimension].versions_of)}) IS NOT NULL"


def _versions_with_a_gap(check: Check) -> Breakage:
    gap = "valid_from = valid_from + interval '1 microsecond'"
    return check.update(gap, _is_known(check.table))


def _no_current_version(check: Check, line: str = "") -> Breakage:
    current = f"{_is_known(check.table)} AND is_current AND NOT is_deleted"
    of_line = f" AND line_of_business = '{line}'" if line else ""
    return check.update("is_deleted = true", current + of_line)


def _implausible(check: Check) -> Breakage:
    if check.table.startswith(("stg_", "int_")):
        return _row_of_nulls(check)
    change, also = IMPLAUSIBLE[check.table]
    return check.update(change, also=frozenset(also))


def _dangling(check: Check) -> Breakage:
    column = TABLES[check.table].references[0].column
    return check.update(f"{column} = {NOBODY}")


def _lost_order(check: Check) -> Breakage:
    raw = f"raw_shop.{check.table.removeprefix('stg_shop__')}"
    # A line that was returned would take its return with it.
    kept = "(order_id, line_number) NOT IN (SELECT order_id, line_number FROM raw_shop.returns)"
    lost = _one(raw, kept if raw.endswith("order_lines") else "true")
    also = _unlike_source(raw) | LOST_ORDER_ALSO[raw.removeprefix("raw_shop.")]
    statement = f"UPDATE {raw} SET order_id = -order_id WHERE {lost}"
    return Breakage(check.full_name, statement, also)


def _odd_value(check: Check) -> Breakage:
    raw_table, column, condition = ODD_VALUES[check.name.removeprefix("accepted_values_")]
    raw = f"raw_shop.{raw_table}"
    statement = f"UPDATE {raw} SET {column} = 'odd' WHERE {_one(raw, condition)}"
    return Breakage(check.full_name, statement, _unlike_source(raw))


def _mistyped_year(check: Check) -> Breakage:
    raw = f"{SOURCE_OF[check.table].schema}.{check.declared.name}"
    column = check.declared.lake_partition
    started = {
        "mongodb": '{"started_at": {"$date": "2126-01-01T10:00:00Z"}}',
        "dynamodb": '{"started_at": 4922935200}',
    }.get(SOURCE_OF[check.table].kind)
    change = f"{column} = {column} + interval '100 years'"
    if started:
        change = f"document = document || '{started}'"
    statement = f"UPDATE {raw} SET {change} WHERE {_one(raw)}"
    return Breakage(check.full_name, statement, _unlike_source(raw))


def _odd_amount(check: Check) -> Breakage:
    relation, column = ODD_AMOUNTS[check.name]
    statement = f"UPDATE {relation} SET {column} = {column} + 1 WHERE {_one(relation)}"
    also = _unlike_source(relation) | ODD_AMOUNTS_ALSO.get(check.name, NONE)
    return Breakage(check.full_name, statement, also)


BREAKAGES: dict[str, Callable[[Check], Breakage]] = {
    "equals_source": _unequal,
    "source_asked": lambda check: Breakage(
        check.full_name,
        "UPDATE ingestion.statements SET asked_at = asked_at - interval '27 hours'"
        f" WHERE source = '{SCHEMAS[check.schema].name}' AND table_name = '{check.table}'",
    ),
    "quarantine_small": _quarantined,
    # A small part of the rows that there used to be. Traffic may have made many.
    "volume_plausible": lambda check: _in_loads(check, "rows_total = 100 * rows_total"),
    "fresh": lambda check: _in_loads(check, "loaded_at = loaded_at - interval '27 hours'"),
    "latest_day_present": _no_latest_day,
    "one_to_one_with_raw": _row_of_nulls,
    "primary_key": _no_key,
    "scd2_intervals": _versions_with_a_gap,
    "current_versions_complete": _no_current_version,
    "dim_customer_matches_source": partial(_no_current_version, line="shop"),
    "dim_customer_matches_crm": partial(_no_current_version, line="telecom"),
    "dim_customer_matches_users": partial(_no_current_version, line="inspire"),
    "references_resolved": _dangling,
    "plan_of_its_time": lambda check: check.update("subscription_id = -1"),
    "plausible": _implausible,
    "dated_plausibly": _mistyped_year,
    "relationships": _lost_order,
    "accepted_values": _odd_value,
    **dict.fromkeys(ODD_AMOUNTS, _odd_amount),
}
"""How the name of a check begins → what breaks it."""


def _breakage(key: dg.AssetCheckKey) -> Breakage:
    """What breaks a check of a table that is not published yet, in staging."""
    for begins, breakage in BREAKAGES.items():
        if key.name.startswith(begins):
            return breakage(Check(key))
    pytest.fail(f"Nothing is known that breaks {key.to_user_string()}: add it here.")


# Publication: audits of the candidate. What is wrong with it may come from staging, from copying,
# or be wrong only in comparison with what is published already.


def _audit(table: str, kind: str) -> str:
    return f"production/{table}:{table}_{kind}"


def _audit_kind(key: dg.AssetCheckKey) -> str:
    """The last words of an audit's name, which say what it asks."""
    kinds = [
        "key_unique",
        "not_empty",
        "equals_staging",
        "volume",
        "growth",
        "intervals",
        "resolves",
        "known",
        "totals",
    ]
    kinds += ["latest_day", "agrees_with"]
    for kind in kinds:
        if key.name.endswith(f"_{kind}") or f"_{kind}_" in key.name:
            return kind
    pytest.fail(f"Nothing is known that breaks {key.to_user_string()}: add it here.")


def _crosses(key: dg.AssetCheckKey) -> bool:
    """Whether an audit is about tables of two lines: it is asked when each has passed its own."""
    [audit] = [audit for audit in AUDITS if audit.name == key.name]
    reads = audit.reads if isinstance(audit, Audit | Measured) else ()
    return any(TABLES[name].line != TABLES[audit.table].line for name in reads)


def _staging_breakage(key: dg.AssetCheckKey, kind: str) -> Breakage:
    """What is wrong in staging already and passes its checks, or came after them."""
    name = key.asset_key.path[1]
    table = f"{TABLES[name].schema}.{name}"
    column = key.name.removeprefix(f"{name}_").removesuffix(f"_{kind}")
    check, one = key.to_user_string(), f"WHERE {_one(table)}"
    references = {reference.column: reference for reference in TABLES[name].references}
    match kind:
        case "key_unique" if not references:
            # Of nulls only, in a copy that no primary key protects.
            return Breakage(
                check,
                f"ALTER TABLE {table} RENAME TO {name}_protected;"
                f" CREATE TABLE {table} AS TABLE {table}_protected;"
                f" INSERT INTO {table} DEFAULT VALUES",
            )
        case "key_unique":
            return Breakage(check, f"UPDATE {table} SET {TABLES[name].key[-1]} = NULL {one}")
        case "not_empty":
            # All at once: facts that have no rows refer to nothing. This goes for those, too, which
            # may have none.
            emptied = [
                each
                for each in TABLES.values()
                if each.name == name
                or (
                    each.declared.may_be_empty
                    and name in {reference.dimension for reference in each.references}
                )
            ]
            truncated = ", ".join(f"{each.schema}.{each.name}" for each in emptied)
            also = {_audit(each.name, "volume") for each in emptied} | {
                _audit(other.name, f"{sums.column}_agrees_with_{sums.other_table}")
                for other in TABLES.values()
                for sums in other.declared.adds_up
                # One that may be empty is compared all the same.
                if sums.other_table in {each.name for each in emptied} - {name}
            }
            return Breakage(check, f"TRUNCATE {truncated}", frozenset(also))
        case "intervals":
            gap = "valid_from = valid_from + interval '1 microsecond'"
            known = _one(table, _is_known(name))
            return Breakage(check, f"UPDATE {table} SET {gap} WHERE {known}")
        case "resolves":
            value = {"dim_date": "'1850-01-01'", "dim_time_of_day": "9999"}.get(
                references[column].dimension, NOBODY
            )
            return Breakage(check, f"UPDATE {table} SET {column} = {value} {one}")
        case "known":
            return Breakage(check, f"UPDATE {table} SET {column} = {references[column].unknown}")
        case "agrees_with":
            [column] = [
                sums.column
                for sums in TABLES[name].declared.adds_up
                if key.name == f"{name}_{sums.column}_agrees_with_{sums.other_table}"
            ]
            return Breakage(check, f"UPDATE {table} SET {column} = {column} + 1 {one}")
    raise AssertionError(kind)


def _candidate_breakage(key: dg.AssetCheckKey, kind: str, candidate: str) -> Breakage:
    """A trigger on the candidate's table that spoils what was copied, as whatever else might.

    It does so once: what the line keeps is copied into the same table afterwards.
    """
    name = key.asset_key.path[1]
    table, also = f"{candidate}.{name}", {_audit(name, "equals_staging")}
    match kind:
        # Rows of nulls too many: without a key, and of a fact's row without what it refers to. One
        # of them is no growth.
        case "equals_staging" | "growth":
            more = "1" if kind == "equals_staging" else f"(SELECT 10 * count(*) FROM {table})"
            key_column = TABLES[name].key[0]
            spoil = (
                f"INSERT INTO {table} ({key_column}) SELECT NULL FROM generate_series(1, {more})"
            )
            also |= {_audit(name, "key_unique")} | {
                _audit(name, f"{reference.column}_resolves")
                for reference in TABLES[name].references
                if TABLES[reference.dimension].line == TABLES[name].line
            }
        case "totals":
            column = TABLES[name].declared.totals[-1]
            also |= {
                _audit(other.name, f"{sums.column}_agrees_with_{name}")
                for other in TABLES.values()
                for sums in other.declared.adds_up
                if (sums.other_table, sums.other_column) == (name, column)
            }
            spoil = f"UPDATE {table} SET {column} = {column} + 1 WHERE {_one(table)}"
        case "latest_day":
            column = TABLES[name].declared.latest
            latest = f"(SELECT max({column})::date FROM {table})"
            spoil = (
                f"UPDATE {table} SET {column} = {column} - interval '1 day' WHERE "
                f"{column}::date = {latest}"
            )
    function = f"public.spoil_{name}()"
    return Breakage(
        key.to_user_string(),
        f"""
        CREATE TABLE IF NOT EXISTS public.spoilt (name text);
        CREATE FUNCTION {function} RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          IF NOT EXISTS (SELECT FROM public.spoilt WHERE name = '{name}') THEN
            INSERT INTO public.spoilt VALUES ('{name}');
            {spoil};
          END IF;
          RETURN NULL;
        END $$;
        CREATE TRIGGER spoil AFTER INSERT ON {table} WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION
          {function};
        """,
        frozenset(also),
    )


def _published_breakage(key: dg.AssetCheckKey) -> Breakage:
    """Twice more rows in all versions so far, so that the next one has lost them."""
    name = key.asset_key.path[1]
    more = (
        f"row_counts = jsonb_set(row_counts, '{{{name}}}',"
        f" to_jsonb(3 * (row_counts ->> '{name}')::bigint))"
    )
    many = "; ".join(
        f"UPDATE production_meta.{table} SET {more}" for table in ("current", "versions")
    )
    return Breakage(key.to_user_string(), many)


@pytest.fixture(scope="module")
def sound(project) -> Iterator[dict[PostgresConnection, PostgresConnection]]:
    """Staging and production, each with a copy of it as it is now."""
    with (
        database(template=staging()) as own_staging,
        database(template=production()) as own_production,
    ):
        yield {staging(): own_staging, production(): own_production}


@contextmanager
def _restored(
    sound: dict[PostgresConnection, PostgresConnection],
) -> Iterator[list[psycopg.Connection]]:
    """Sessions on staging and production, which are as they were afterwards, whatever was done to
    them.

    Tables are broken where they are and not in the copies: dbt's manifest has the database's name
    in it.
    """
    with ExitStack() as stack:
        stack.callback(_restore, sound)
        yield [stack.enter_context(connection.connect(autocommit=True)) for connection in sound]


def _restore(sound: dict[PostgresConnection, PostgresConnection]) -> None:
    with replace(staging(), database="postgres").connect(autocommit=True) as admin:
        for connection, copy in sound.items():
            admin.execute(f"DROP DATABASE {connection.database} WITH (FORCE)".encode())
            admin.execute(
                f"CREATE DATABASE {connection.database} TEMPLATE {copy.database}".encode()
            )


SCORES = (
    "INSERT INTO ml.churn_scores (subscriber_id) SELECT subscriber_id"
    " FROM warehouse.dim_subscriber WHERE is_current AND subscriber_id IS NOT NULL",
    *(
        f"INSERT INTO ml.{table} (user_id, place) SELECT id, 1 FROM raw_inspire.users"
        f" WHERE NOT EXISTS (SELECT FROM ml.{table})"
        for table in ("workout_scores", "quote_scores")
    ),
)


@pytest.fixture
def scored(
    sound: dict[PostgresConnection, PostgresConnection], definitions: dg.Definitions
) -> Iterator[dict[PostgresConnection, PostgresConnection]]:
    """The same with scores of models, of which the demo may have none: so few make no model."""
    try:
        with staging().connect() as session, production().connect() as publishing:
            for statement in SCORES:
                session.execute(statement)
            publishing.execute("DELETE FROM production_meta.contents")
        failed, _ = _run(definitions, dg.AssetSelection.groups("production"))
        assert not failed
        with (
            database(template=staging()) as own_staging,
            database(template=production()) as own_production,
        ):
            yield {staging(): own_staging, production(): own_production}
    finally:
        _restore(sound)


def _run(
    definitions: dg.Definitions, selection: dg.AssetSelection
) -> tuple[set[str], dg.ExecuteInProcessResult]:
    """Run checks, or what is selected with its checks: those that failed, and the result."""
    job = dg.define_asset_job("checked", selection=selection)
    result = (
        dg.Definitions.merge(definitions, dg.Definitions(jobs=[job]))
        .resolve_job_def("checked")
        .execute_in_process(
            instance=dg.DagsterInstance.ephemeral(), raise_on_error=False, run_config=QUIET
        )
    )
    evaluations = result.get_asset_check_evaluations()
    return {
        each.asset_check_key.to_user_string() for each in evaluations if not each.passed
    }, result


def _failed_checks(definitions: dg.Definitions, keys: list[dg.AssetCheckKey]) -> set[str]:
    """Run checks in one run. An op that fails by anything else has not run all of them."""
    failed, result = _run(definitions, dg.AssetSelection.checks(*keys))
    evaluations = result.get_asset_check_evaluations()
    is_refused = any(
        not each.passed and each.severity is dg.AssetCheckSeverity.ERROR for each in evaluations
    )
    assert not (is_refused and result.success)
    for event in result.filter_events(lambda event: event.is_step_failure):
        error = event.step_failure_data.error
        while error.cause:
            error = error.cause
        assert error.cls_name in FAILED_CHECKS, f"{event.step_key}: {error.to_string()}"
    assert {each.asset_check_key for each in evaluations} == set(keys)
    return failed


def _together(breakages: Iterable[Breakage]) -> list[list[Breakage]]:
    """Sort into batches in which no check fails by two breakages at once: then each fails by its
    own.
    """
    batches: list[list[Breakage]] = []
    for breakage in breakages:
        for batch in batches:
            if not any(
                breakage.check in other.also or other.check in breakage.also for other in batch
            ):
                batch.append(breakage)
                break
        else:
            batches.append([breakage])
    return batches


BROKEN_ELSEWHERE = {
    RECONCILES: "test_reconcile breaks raw tables in every way for it",
    "equals_raw": "it looks at the lake: test_lake_assets",
    "computed": "it looks at a job: test_local_failures",
    "equals_production": "it looks at files: test_extracts",
    "ends_in_raw": "it looks only at what has changed: test_history_audit",
    RECOUNTED: "test_ods changes running totals",
    # A model needs more subscribers than there are here.
    **dict.fromkeys(
        ("trained", "plausible", "calibrated", "useful", "fair", "scored"), "test_trained_models"
    ),
    **dict.fromkeys(("matched", *PROMISES), "test_people changes who is who"),
}
"""Check → the test that breaks it, and why not this one."""


WITHOUT_ROWS = {
    f"raw_inspire/suppressions:{check}"
    for check in ("equals_source", "quarantine_small", "volume_plausible")
}
"""Of so few people, nobody has a mail that bounced. A table without rows cannot be broken."""


def _checks(definitions: dg.Definitions, published: bool) -> list[dg.AssetCheckKey]:
    """All but those that other tests break. `test_own_reports` does so with reports of sources."""
    reports = {source.reporting for source in LINES.sources}
    return sorted(
        key
        for key in definitions.resolve_asset_graph().asset_check_keys
        if (key.asset_key.path[0] == "production") == published
        and key.name not in BROKEN_ELSEWHERE
        and key.to_user_string() not in WITHOUT_ROWS | EXPIRING
        and not (key.name == "equals_source" and key.asset_key.to_user_string() in UNSTATED)
        and key.asset_key.path[0] not in reports
    )


def _apart(
    definitions: dg.Definitions, keys: Iterable[dg.AssetCheckKey]
) -> list[list[dg.AssetCheckKey]]:
    """The checks of each op, and together those of all ops that check raw tables.

    An op that fails keeps those after it in the same run from running. None comes after another
    source's.
    """
    ops = {
        key: assets.node_def.name
        for assets in definitions.resolve_asset_graph().assets_defs
        for key in assets.check_keys
    }
    groups: dict[str, list[dg.AssetCheckKey]] = {}
    for key in keys:
        is_raw = key.asset_key.path[0] in SCHEMAS
        groups.setdefault("raw" if is_raw else ops[key], []).append(key)
    return list(groups.values())


@pytest.mark.timeout(1800)  # All checks run for each batch.
def test_each_check_before_publication_fails_when_just_that_is_broken(sound, definitions):
    keys = _checks(definitions, published=False)
    batches = _together(map(_breakage, keys))
    assert sum(map(len, batches)) == len(keys)
    for batch in batches:
        with _restored(sound) as (session, _):
            for breakage in batch:
                assert session.execute(breakage.sql).rowcount != 0, (
                    f"{breakage.check}: nothing was broken"
                )
            failed = frozenset[str]()
            for together in _apart(definitions, keys):
                failed |= _failed_checks(definitions, together)
            assert failed - EXPIRING == frozenset().union(*(breakage.fails for breakage in batch))


def test_each_audit_fails_when_just_that_is_broken_and_its_line_is_held(
    scored, project, definitions
):
    def batch(key: dg.AssetCheckKey) -> tuple[str, bool]:
        return _audit_kind(key), _crosses(key)

    by_kind = sorted(_checks(definitions, published=True), key=batch)
    assert len(by_kind) == len(AUDITS)
    for (kind, _), group in groupby(by_kind, batch):
        keys = list(group)
        with _restored(scored) as (session, publishing):
            current = slots.read_current(publishing)
            assert current
            [candidate] = set(slots.slots_of(slots.pair_of(current.slot))) - {current.slot}
            match kind:
                case "equals_staging" | "growth" | "totals" | "latest_day":
                    session = publishing
                    # Otherwise nothing is copied, as nothing has changed.
                    session.execute("DELETE FROM production_meta.contents")
                    breakages = [
                        _candidate_breakage(key, kind, slots.slot_schema(candidate)) for key in keys
                    ]
                case "volume":
                    session = publishing
                    breakages = [_published_breakage(key) for key in keys]
                case _:
                    breakages = [_staging_breakage(key, kind) for key in keys]
            for breakage in breakages:
                session.execute(breakage.sql)
            before, versions = project.published(), slots.read_lines(publishing)
            failed, result = _run(definitions, dg.AssetSelection.groups("production"))
            assert failed == frozenset().union(*(breakage.fails for breakage in breakages))
            # The other lines go live, with the rows that they had.
            held = {TABLES[key.asset_key.path[1]].line for key in keys}
            assert result.success == (held < versions.keys())
            after = slots.read_lines(publishing)
            assert {line for line in after if after[line].version == versions[line].version} == held
            assert project.published() == before


def _layers_made_since(
    started: float, instance: dg.DagsterInstance, definitions: dg.Definitions
) -> set[str]:
    """The layers of which assets were materialised since then."""
    keys = definitions.resolve_asset_graph().materializable_asset_keys
    latest = {key: instance.get_latest_materialization_event(key) for key in keys}
    return {key.path[0] for key, event in latest.items() if event and event.timestamp > started}


def test_a_broken_raw_table_stops_all_that_comes_after_until_it_is_mended(
    project: Project, definitions, instance
):
    graph = definitions.resolve_asset_graph()
    files = {path: path.stat().st_mtime_ns for path in project.extracts.iterdir()}
    tables = {path: path.read_bytes() for path in project.extracts.glob("*.csv")}
    before = project.published()
    with staging().connect() as session:
        one = _one("raw_shop.returns")
        session.execute(
            f"UPDATE raw_shop.returns SET refund_amount = refund_amount + 1 WHERE {one}".encode()
        )
    # Nobody looks at a table that did not change. The change is of a column that nothing reads.
    with closing(MySQLConnection.from_env("SOFTCART_SHOP").connect(autocommit=True)) as shop:
        shop.query("UPDATE returns SET updated_at = NOW(6) ORDER BY id DESC LIMIT 1")

    started = time.time()
    code, told = project.demo()
    assert code == 1
    assert "raw_shop/returns: equals_source" in told
    # Nothing else has changed, so nothing else is made.
    assert _layers_made_since(started, instance, definitions) == {"raw_shop"}
    assert project.published() == before
    assert {path: path.stat().st_mtime_ns for path in project.extracts.iterdir()} == files

    # The nightly job compares every row with its source, and so mends it. The demo, run again, ends
    # as the first did.
    started = time.time()
    nightly = definitions.resolve_job_def("nightly_repair")
    raw = [key for key in graph.materializable_asset_keys if key.path[0] in SCHEMAS]
    assert nightly.execute_in_process(
        instance=instance, asset_selection=raw, run_config=QUIET
    ).success
    code, told = project.demo()
    assert code == 0, told
    assert "hold this seed already" in told
    assert project.is_sound(definitions, told), told
    # No aggregate reads returns.
    behind = {"lake_shop", "staging", "warehouse", "production", "extracts"}
    assert _layers_made_since(started, instance, definitions) == {*SCHEMAS, *behind}
    assert project.published() == before
    assert {path: path.read_bytes() for path in project.extracts.glob("*.csv")} == tables

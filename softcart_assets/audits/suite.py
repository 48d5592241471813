"""The audits that every publication must pass.

Most are made from the declarations of the published tables and from the lists below: to have a reference or a total
audited, add it there.
"""

from __future__ import annotations

from decimal import Decimal

from softcart_assets.audits.model import Audit, Comparison
from softcart_assets.publishing.tables import PUBLISHED, PublishedTable

_UNKNOWN = "'00000000-0000-0000-0000-000000000000'"

_REFERENCES: tuple[tuple[str, str, str, str, Decimal | None], ...] = (
    # fact, its column, dimension, the dimension's key, and which share of rows may point to the unknown member
    # (None: any. Web orders have no employee, and orders taken away in a store no address.)
    ("fct_order_lines", "order_date", "dim_date", "date_key", None),
    ("fct_order_lines", "time_of_day_key", "dim_time_of_day", "time_of_day_key", None),
    ("fct_order_lines", "customer_key", "dim_customer", "customer_key", Decimal("0.1")),
    ("fct_order_lines", "product_key", "dim_product", "product_key", Decimal("0.05")),
    ("fct_order_lines", "store_key", "dim_store", "store_key", Decimal("0.02")),
    ("fct_order_lines", "vendor_key", "dim_vendor", "vendor_key", Decimal("0.05")),
    ("fct_order_lines", "employee_key", "dim_employee", "employee_key", None),
    ("fct_order_lines", "location_key", "dim_location", "location_key", None),
    ("fct_order_lines", "device_key", "dim_device", "device_key", Decimal("0.05")),
    ("fct_payments", "payment_date", "dim_date", "date_key", None),
    ("fct_payments", "time_of_day_key", "dim_time_of_day", "time_of_day_key", None),
    ("fct_payments", "customer_key", "dim_customer", "customer_key", Decimal("0.1")),
    ("fct_payments", "store_key", "dim_store", "store_key", Decimal("0.02")),
    ("fct_payments", "device_key", "dim_device", "device_key", Decimal("0.05")),
    ("fct_inventory_daily", "inventory_date", "dim_date", "date_key", None),
    ("fct_inventory_daily", "store_key", "dim_store", "store_key", Decimal("0.02")),
    ("fct_inventory_daily", "product_key", "dim_product", "product_key", Decimal("0.05")),
)

_TOTALS = {
    "fct_order_lines": "quantity gross_amount discount_amount net_amount tax_amount cost_amount margin_amount "
    "returned_quantity refund_amount",
    "fct_payments": "amount captured_amount",
    "fct_inventory_daily": "received_quantity sold_quantity returned_quantity adjusted_quantity closing_quantity",
}
"""Fact → the columns whose sums must equal staging's to the last digit."""

_LATEST = {
    "fct_order_lines": "ordered_at",
    "fct_payments": "paid_at",
    "fct_inventory_daily": "inventory_date",
}
"""Fact → the time whose latest day staging has and the candidate must have."""


def _key(table: PublishedTable) -> Audit:
    key = ", ".join(table.key)
    present = " AND ".join(f"{column} IS NOT NULL" for column in table.key)
    return Audit(
        f"{table.name}_key_unique",
        table.name,
        f"Each row of {table.name} has a key ({key}) of its own, without nulls.",
        f"""
        SELECT coalesce(sum(n) FILTER (WHERE n > 1 OR NOT present), 0)::bigint AS offending,
               coalesce(sum(n), 0)::bigint AS total,
               (array_agg(concat_ws('/', {key})) FILTER (WHERE n > 1 OR NOT present))[:5] AS sample
        FROM (SELECT {key}, {present} AS present, count(*) AS n FROM {table.name} GROUP BY {key}) keys
        """,
    )


def _not_empty(table: PublishedTable) -> Audit:
    return Audit(
        f"{table.name}_not_empty",
        table.name,
        f"{table.name} has rows.",
        f"SELECT (NOT EXISTS (SELECT FROM {table.name}))::int AS offending, 1 AS total",
    )


def _row_count(table: PublishedTable) -> Comparison:
    return Comparison(
        f"{table.name}_row_count",
        table.name,
        f"{table.name} has as many rows as in staging.",
        f"SELECT count(*) AS row_count FROM {table.name}",
        "staging",
    )


def _volume(table: PublishedTable) -> Comparison:
    return Comparison(
        f"{table.name}_volume",
        table.name,
        f"{table.name} has not lost more than {table.max_drop:.0%} of its rows since the last publication.",
        f"SELECT count(*) AS row_count FROM {table.name}",
        "current",
        max_drop=table.max_drop,
    )


def _intervals(table: PublishedTable) -> Audit:
    member = table.versions_of
    return Audit(
        f"{table.name}_intervals",
        table.name,
        f"The versions of each {member} in {table.name} cover all time, without gap or overlap; the last is current.",
        f"""
        WITH versions AS (
          SELECT {member}, valid_from, valid_to, is_current,
                 lag(valid_to, 1, '1900-01-01 00:00+00') OVER w AS previous_to, lead(valid_from) OVER w AS next_from
          FROM {table.name} WHERE {table.key[0]} <> {_UNKNOWN} WINDOW w AS (PARTITION BY {member} ORDER BY valid_from)
        ), offenders AS (
          SELECT DISTINCT {member} FROM versions
          WHERE valid_from <> previous_to OR valid_from >= valid_to OR is_current <> (next_from IS NULL)
             OR (next_from IS NULL AND valid_to <> '9999-12-31 00:00+00')
        )
        SELECT (SELECT count(*) FROM offenders) AS offending,
               (SELECT count(DISTINCT {member}) FROM versions) AS total,
               (SELECT array_agg({member}::text) FROM (SELECT * FROM offenders LIMIT 5) few) AS sample
        """,
    )


def _resolves(fact: str, column: str, dimension: str, key: str) -> Audit:
    return Audit(
        f"{fact}_{column}_resolves",
        fact,
        f"Each {column} of {fact} stands in {dimension}.",
        f"""
        SELECT coalesce(sum(n) FILTER (WHERE d.{key} IS NULL), 0)::bigint AS offending,
               coalesce(sum(n), 0)::bigint AS total,
               (array_agg(coalesce(f.{column}::text, 'null')) FILTER (WHERE d.{key} IS NULL))[:5] AS sample
        FROM (SELECT {column}, count(*) AS n FROM {fact} GROUP BY {column}) f
        LEFT JOIN {dimension} d ON d.{key} = f.{column}
        """,
    )


def _known(fact: str, column: str, max_share: Decimal) -> Audit:
    return Audit(
        f"{fact}_{column}_known",
        fact,
        f"At most {max_share:.0%} of the rows of {fact} have the unknown member as {column}.",
        f"SELECT count(*) FILTER (WHERE {column} = {_UNKNOWN}) AS offending, count(*) AS total FROM {fact}",
        max_share=max_share,
    )


def _totals(fact: str, columns: str) -> Comparison:
    return Comparison(
        f"{fact}_totals",
        fact,
        f"The sums of {fact} equal staging's exactly.",
        f"SELECT {', '.join(f'sum({column}) AS {column}' for column in columns.split())} FROM {fact}",
        "staging",
    )


def _latest(fact: str, column: str) -> Comparison:
    return Comparison(
        f"{fact}_latest_day",
        fact,
        f"{fact} reaches the same day as in staging.",
        f"SELECT max({column})::date AS latest_day FROM {fact}",
        "staging",
    )


def _agrees(aggregate: str) -> Audit:
    return Audit(
        f"{aggregate}_agrees_with_facts",
        aggregate,
        f"The net amounts of {aggregate} add up to those of the lines in fct_order_lines that are not cancelled.",
        f"""
        SELECT (a.net_amount IS DISTINCT FROM f.net_amount)::int AS offending, 1 AS total,
               a.net_amount, f.net_amount AS net_amount_facts
        FROM (SELECT sum(net_amount) AS net_amount FROM {aggregate}) a,
             (SELECT sum(net_amount) AS net_amount FROM fct_order_lines WHERE NOT is_cancelled) f
        """,
    )


AUDITS: tuple[Audit | Comparison, ...] = (
    *map(_key, PUBLISHED),
    *(_not_empty(table) for table in PUBLISHED if not table.may_be_empty),
    *map(_row_count, PUBLISHED),
    *map(_volume, PUBLISHED),
    *(_intervals(table) for table in PUBLISHED if table.versions_of),
    *(_resolves(fact, column, dimension, key) for fact, column, dimension, key, _ in _REFERENCES),
    *(
        _known(fact, column, share)
        for fact, column, _, _, share in _REFERENCES
        if share is not None
    ),
    *(_totals(fact, columns) for fact, columns in _TOTALS.items()),
    *(_latest(fact, column) for fact, column in _LATEST.items()),
    *(
        _agrees(name)
        for name in ("agg_sales_by_category_month", "agg_orders_by_device_weekday_hour")
    ),
)
"""Every audit of a publication of all `PUBLISHED` tables."""

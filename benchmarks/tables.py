"""Tables for measurements. SQL makes them inside the source database, where they stay.

Every value is a function of the row's number. So every run and every machine has the same rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from softcart_assets.connections import MySQLConnection

_CHUNK = 500_000


@dataclass(frozen=True)
class MadeTable:
    """A table and the recipe of its rows.

    `columns`: the definition of the columns, in parentheses. `select`: the values of the rows for
    the number `n`. `lines`: rows per number, numbered by `line`. `numbers`: how many numbers.
    `range_column`: the whole-number column by which other tools should divide the table, or None.
    """

    name: str
    key: tuple[str, ...]
    columns: str
    select: str
    numbers: int
    lines: int = 1
    range_column: str | None = None

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.numbers * self.lines


def orders(rows: int) -> MadeTable:
    """A shop's orders."""
    return MadeTable(
        "orders",
        ("order_id",),
        """(
          order_id bigint NOT NULL PRIMARY KEY,
          customer_id int NOT NULL,
          store_id int NOT NULL,
          status enum('new', 'paid', 'shipped', 'returned') NOT NULL,
          channel varchar(12) NOT NULL,
          total_amount decimal(12,2) NOT NULL,
          discount_pct decimal(6,4),
          ordered_at datetime(6) NOT NULL,
          shipped_at datetime,
          note text,
          updated_at datetime(6) NOT NULL,
          KEY (updated_at)
        )""",
        """
          n,
          1 + crc32(n) % 200000,
          1 + n % 250,
          elt(1 + crc32(n + 1) % 4, 'new', 'paid', 'shipped', 'returned'),
          elt(1 + n % 3, 'web', 'app', 'store'),
          (crc32(n + 2) % 10000000) / 100,
          if(n % 5 = 0, (crc32(n + 3) % 5000) / 10000, NULL),
          '2024-01-01' + INTERVAL n * 31000017 MICROSECOND,
          if(n % 4 = 0, NULL, '2024-01-02' + INTERVAL n * 31 SECOND),
          if(n % 7 = 0, concat('Please leave it at the café’s\tback door, ', md5(n), if(n % 77 = 0,
            '\n🛒', '')), NULL),
          '2024-01-03' + INTERVAL n * 31000017 MICROSECOND
        """,
        rows,
        range_column="order_id",
    )


def order_lines(orders: int) -> MadeTable:
    """Three lines of each order."""
    return MadeTable(
        "order_lines",
        ("order_id", "line_number"),
        """(
          order_id bigint NOT NULL,
          line_number int NOT NULL,
          product_id int NOT NULL,
          sku varchar(20) NOT NULL,
          quantity int NOT NULL,
          unit_price decimal(10,2) NOT NULL,
          discount_amount decimal(10,2),
          tax_amount decimal(10,4) NOT NULL,
          warehouse_id int NOT NULL,
          updated_at datetime(6) NOT NULL,
          PRIMARY KEY (order_id, line_number),
          KEY (updated_at)
        )""",
        """
          n,
          line,
          1 + crc32(n * 3 + line) % 50000,
          concat('SKU-', lpad(crc32(n * 3 + line) % 50000, 7, '0')),
          1 + (n + line) % 9,
          (crc32(n * 5 + line) % 100000) / 100,
          if(n % 3 = 0, (crc32(n * 7 + line) % 1000) / 100, NULL),
          (crc32(n * 9 + line) % 1000000) / 10000,
          1 + n % 12,
          '2024-01-03' + INTERVAL n * 31000017 MICROSECOND
        """,
        orders,
        lines=3,
        range_column="order_id",
    )


def make(connection: MySQLConnection, *tables: MadeTable) -> None:
    """Fill the tables that are missing. Their rows do not go through the binary log."""
    with connection.connect() as session, session.cursor() as cursor:

        def run(statement: str) -> list[tuple[Any, ...]]:
            cursor.execute(statement)
            return list(cursor.fetchall())

        run("SET SESSION sql_log_bin = 0, unique_checks = 0, foreign_key_checks = 0, sql_mode = ''")
        found = dict(
            run(
                "SELECT table_name, table_comment FROM information_schema.tables WHERE "
                "table_schema = DATABASE()"
            )
        )
        for table in tables:
            # A digest of the recipe is the comment of the table. It is set last, so a table that a
            # kill left half full is made again.
            recipe = hashlib.sha256(repr(table).encode()).hexdigest()
            if found.get(table.name) == recipe:
                continue
            print(f"filling {connection.database}.{table.name}: {table.rows:,} rows", flush=True)
            run(f"DROP TABLE IF EXISTS {table.name}")
            run(f"CREATE TABLE {table.name} {table.columns} ENGINE InnoDB")
            lines = " UNION ALL ".join(
                f"SELECT {line} AS line" for line in range(1, table.lines + 1)
            )
            make_numbers(run, table.numbers)
            # In pieces, because one transaction over millions of rows would need a huge undo log.
            for low in range(0, table.numbers, _CHUNK):
                run(
                    f"INSERT INTO {table.name} SELECT {table.select} FROM numbers CROSS JOIN "
                    f"({lines}) AS l"
                    f" WHERE n > {low} AND n <= {min(low + _CHUNK, table.numbers)} ORDER BY n, line"
                )
                run("COMMIT")
            run(f"ALTER TABLE {table.name} COMMENT '{recipe}'")
            run(f"ANALYZE TABLE {table.name}")


def make_numbers(run: Callable[[str], list[tuple[Any, ...]]], wanted: int) -> None:
    """Make the table `numbers` with 1, 2, … up to `wanted` or more."""
    run("CREATE TABLE IF NOT EXISTS numbers (n int NOT NULL PRIMARY KEY)")
    ((highest,),) = run("SELECT coalesce(max(n), 0) FROM numbers")
    if not highest:
        run("INSERT INTO numbers VALUES (1)")
        highest = 1
    while highest < wanted:
        run(f"INSERT INTO numbers SELECT n + {highest} FROM numbers ORDER BY n")
        run("COMMIT")
        highest *= 2

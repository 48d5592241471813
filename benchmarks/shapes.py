"""Tables of other shapes: does anything fall off a cliff? Ours beside the fastest peers.

    python -m benchmarks shapes [--scale 1] [--only WORD]

Results go to `benchmarks/results/shapes.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks import peers, rig
from benchmarks.copy import Bench, Measured, our_copy, our_load, pipe_all
from benchmarks.peers import Task
from benchmarks.rig import Servers, Usage
from benchmarks.tables import MadeTable

WAYS: dict[str, Callable[[Task], Usage]] = {
    "ours: copy": our_copy,
    "ours: whole load": our_load,
    "dlt, tuned": peers.dlt_tuned,
    "ConnectorX to ADBC": peers.connectorx,
    "mariadb piped into psql": pipe_all,
}
_PLAIN = (
    "customer_id int NOT NULL, amount decimal(12,2) NOT NULL, label varchar(40), changed_at "
    "datetime(6) NOT NULL"
)
_PLAIN_VALUES = """
  crc32(n) % 200000, (crc32(n + 2) % 10000000) / 100, if(n % 5 = 0, NULL, concat('label ', n)),
  '2024-01-01' + INTERVAL n * 31000017 MICROSECOND
"""


def wide_text(scale: float) -> list[MadeTable]:
    """Rows of two kilobytes: ten texts, one of them long, in several scripts."""
    names = [f"text_{number}" for number in range(10)]
    columns = ", ".join(
        f"{name} {'mediumtext' if name == 'text_9' else 'varchar(400)'}" for name in names
    )
    values = ", ".join(
        f"repeat(concat(md5(n + {number}), ' naïve 文字 '), 4)" for number in range(10)
    )
    return [
        MadeTable(
            "wide_text",
            ("id",),
            f"(id int NOT NULL PRIMARY KEY, {columns})",
            f"n, {values}",
            int(200_000 * scale),
            range_column="id",
        )
    ]


def json(scale: float) -> list[MadeTable]:
    """A document of a few hundred bytes in each row."""
    document = (
        "json_object('id', n, 'name', concat('Item ', n), 'price', (n % 1000) / 10, 'tags',"
        " json_array(md5(n), md5(n + 1), 'plain'), 'stock', json_object('main', n % 7, 'reserve', "
        "NULL, 'city', 'Köln'))"
    )
    return [
        MadeTable(
            "documents",
            ("id",),
            "(id int NOT NULL PRIMARY KEY, document json NOT NULL)",
            f"n, {document}",
            int(500_000 * scale),
            range_column="id",
        )
    ]


def narrow_integers(scale: float) -> list[MadeTable]:
    """Ten small whole numbers per row. Here a row costs more than its bytes."""
    columns = ", ".join(
        f"tiny_{n} tinyint NOT NULL, small_{n} smallint, medium_{n} mediumint NOT NULL"
        for n in range(3)
    )
    values = ", ".join(
        f"n % 100 - {k}, if(n % 9 = {k}, NULL, n % 30000), crc32(n + {k}) % 8000000"
        for k in range(3)
    )
    return [
        MadeTable(
            "narrow_integers",
            ("id",),
            f"(id int NOT NULL PRIMARY KEY, {columns})",
            f"n, {values}",
            int(2_000_000 * scale),
            range_column="id",
        )
    ]


def many_tables(scale: float) -> list[MadeTable]:
    """Two hundred tables of a thousand rows, to measure the cost of a table itself."""
    columns = f"(id int NOT NULL PRIMARY KEY, {_PLAIN})"
    count = max(int(200 * scale), 10)
    return [
        MadeTable(
            f"small_{number:03}", ("id",), columns, f"n, {_PLAIN_VALUES}", 1000, range_column="id"
        )
        for number in range(count)
    ]


def composite_key(scale: float) -> list[MadeTable]:
    """A key of three columns. The first column has few values."""
    return [
        MadeTable(
            "composite_key",
            ("region", "day", "number"),
            f"(region varchar(8) NOT NULL, day date NOT NULL, number int NOT NULL, {_PLAIN},"
            " PRIMARY KEY (region, day, number))",
            f"concat('R', n % 7), '2024-01-01' + INTERVAL n % 365 DAY, n, {_PLAIN_VALUES}",
            int(1_000_000 * scale),
        )
    ]


def string_key(scale: float) -> list[MadeTable]:
    """A key of text, like a UUID."""
    return _keyed("string_key", "char(36)", "insert(insert(sha1(n), 9, 1, '-'), 14, 1, '-')", scale)


def binary_key(scale: float) -> list[MadeTable]:
    """A key of 16 bytes."""
    return _keyed("binary_key", "binary(16)", "unhex(md5(n))", scale)


def no_key(scale: float) -> list[MadeTable]:
    """No key, and rows that occur twice."""
    (table,) = _keyed("no_key", "int", "n % 1000", scale)
    return [
        MadeTable(
            table.name, (), table.columns.replace("PRIMARY KEY", ""), table.select, table.numbers
        )
    ]


def skewed_key(scale: float) -> list[MadeTable]:
    """A number as key. Nine of ten rows are close together, and the others are far apart.

    So ranges of equal size are unequal work.
    """
    (table,) = _keyed("skewed_key", "bigint", "if(n % 10 = 0, n * 1000003, n)", scale)
    return [
        MadeTable(
            table.name, table.key, table.columns, table.select, table.numbers, range_column="id"
        )
    ]


def _keyed(name: str, type_: str, key: str, scale: float) -> list[MadeTable]:
    columns = f"(id {type_} NOT NULL PRIMARY KEY, {_PLAIN})"
    return [MadeTable(name, ("id",), columns, f"{key}, {_PLAIN_VALUES}", int(1_000_000 * scale))]


SHAPES: dict[str, Callable[[float], list[MadeTable]]] = {
    "wide text": wide_text,
    "JSON": json,
    "narrow integers": narrow_integers,
    "many small tables": many_tables,
    "composite key": composite_key,
    "string key": string_key,
    "binary key": binary_key,
    "no key": no_key,
    "skewed key": skewed_key,
}


def report(results: dict[str, tuple[Bench, dict[str, Measured]]]) -> Sequence[str]:
    """The results as Markdown: one line per shape, and failures and differences below."""
    lines = [
        "# Tables of other shapes",
        "",
        "Rows per second, and the peak of memory of our whole load. The whole load also makes the "
        "primary key, writes Parquet "
        "and keeps books; the others only copy.",
        "",
        f"| shape | rows | {' | '.join(WAYS)} | memory, MB |",
        "|---|---:|" + "---:|" * (len(WAYS) + 1),
    ]
    notes = []
    for shape, (bench, measured) in results.items():
        cells = []
        for name, m in measured.items():
            marks = (
                "failed"
                if not m.usage
                else f"{bench.rows / m.usage.seconds:,.0f}{' ≠' * bool(m.differences)}"
            )
            cells.append(marks)
            if what := m.failure or "; ".join(m.differences):
                notes.append(f"- {shape}, {name}: {what}")
        usage = measured["ours: whole load"].usage
        memory = f"{usage.peak_bytes / 2**20:,.0f}" if usage else "–"
        tables = f" in {len(bench.tables)} tables" * (len(bench.tables) > 1)
        lines.append(f"| {shape} | {bench.rows:,}{tables} | {' | '.join(cells)} | {memory} |")
    return [*lines, "", "≠: the copy is not equal to its source.", "", *notes] if notes else lines


def run(servers: Servers, scale: float = 1, only: str = "", repeat: int = 1) -> None:
    """Measure and report. With `only`, just shapes with this word in their name, and no report is
    written.
    """
    results = {}
    for shape, made in SHAPES.items():
        if only in shape:
            tables = made(scale)
            bench = Bench(servers, f"shapes_{tables[0].rows}", tables)
            ways = {f"{shape}, {name}": way for name, way in WAYS.items()}
            measured = {name: bench.measure(name, way, repeat) for name, way in ways.items()}
            results[shape] = bench, dict(zip(WAYS, measured.values(), strict=True))
    if only:
        print("\n".join(report(results)))
    else:
        rig.write_result("shapes", report(results), servers)

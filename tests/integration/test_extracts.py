"""Extracts: each number equals production, both files are the same, and what is said about columns
is true.
"""

import codecs
import csv
import gzip
import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from threading import Lock
from typing import Any

import pandas
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet
import pytest
import sqlglot
from psycopg import sql
from sqlglot import exp
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import build_scope
from support.databases import database
from support.pages import column, opened, pictured
from support.published import AUDITS, TABLES
from support.warehouse import create_warehouse

from softcart_assets.assembly import LINES
from softcart_assets.connections import PostgresConnection
from softcart_assets.extracts import lineage, write
from softcart_assets.extracts.dictionary import BEGINS, INSIDE, SEPARATORS
from softcart_assets.extracts.totals import differing
from softcart_assets.extracts.write import ExtractError, ExtractFiles, write_extracts
from softcart_assets.lines.model import Extract
from softcart_assets.lines.shop.pages import SALES
from softcart_assets.pages.kit import cube
from softcart_assets.pages.kit.render import build_page
from softcart_assets.publishing.publish import publish
from softcart_assets.publishing.slots import read_shapes

DATA = Path(__file__).parents[1] / "data"
EXTRACTS = LINES.line("shop").extracts
FORMULA = r" *[=+\-@\t\r\n＝＋－＠]"
"""How a text in CSV must not begin."""
SOLD = "FROM production.fct_order_lines WHERE NOT is_cancelled"
PAID = "FROM production.fct_payments"


@pytest.fixture(scope="module")
def staging(stack) -> Iterator[PostgresConnection]:
    with database() as connection:
        create_warehouse(connection, orders=1500)
        yield connection


@pytest.fixture(scope="module")
def production(staging) -> Iterator[PostgresConnection]:
    with database() as connection:
        publish(staging, connection, TABLES, AUDITS)
        yield connection


@pytest.fixture(scope="module")
def files(production, tmp_path_factory) -> dict[str, ExtractFiles]:
    return write_extracts(production, tmp_path_factory.mktemp("extracts"), EXTRACTS)


@pytest.mark.parametrize("extract", EXTRACTS, ids=lambda extract: extract.name)
def test_totals_equal_production(extract, files, production):
    table = pa.parquet.read_table(files[extract.name].parquet)
    assert table.num_rows == files[extract.name].rows > 0
    figures = files[extract.name].figures
    assert differing(figures) == []
    assert list(figures) == ["rows", *extract.totals]
    with production.connect() as session:
        for name, question in extract.totals.items():
            (there,) = session.execute(f"SELECT {question}".encode()).fetchone()
            assert pa.compute.sum(table[name]).as_py() == there, name
            assert Decimal(figures[name][0]) == Decimal(figures[name][1]) == there
    # Of a column that is compared with nothing, nobody can tell what a join lost or doubled.
    unproven = [
        name
        for name, text in extract.columns.items()
        if re.search(r"(^|_)(amount|quantity|count)(_|$)", name)
        and name not in extract.totals
        and "Do not add up" not in text
    ]
    assert unproven == []


def test_what_a_join_doubles_is_found(production, tmp_path):
    """As a version of a product that comes twice would do."""
    [sound] = [extract for extract in EXTRACTS if extract.name == "ext_payments_daily"]
    doubled = replace(
        sound,
        sql=sound.sql.replace(
            "FROM production.fct_payments f",
            "FROM production.fct_payments f CROSS JOIN (VALUES (1), (2)) AS twice",
        ),
    )
    files = write_extracts(production, tmp_path, [doubled])[sound.name]
    assert differing(files.figures) == list(sound.totals)
    again = write_extracts(production, tmp_path, [doubled])[sound.name]
    # An unchanged file is not compared again. What was found stays found.
    assert (again.is_new, again.figures) == (False, files.figures)


def test_rows_that_the_parquet_file_lacks_are_found(production, tmp_path, monkeypatch):
    def cut(csv: Path, parquet: Path, schema: pa.Schema) -> int:
        rows = to_parquet(csv, parquet, schema)
        pa.parquet.write_table(pa.parquet.read_table(parquet)[1:], parquet)
        return rows

    to_parquet = write._to_parquet
    monkeypatch.setattr(write, "_to_parquet", cut)
    [extract] = [extract for extract in EXTRACTS if extract.name == "ext_payments_daily"]
    files = write_extracts(production, tmp_path, [extract])[extract.name]
    assert "rows" in differing(files.figures)


@pytest.mark.parametrize("extract", EXTRACTS, ids=lambda extract: extract.name)
def test_csv_equals_parquet(extract, files):
    table = pa.parquet.read_table(files[extract.name].parquet)
    with files[extract.name].csv.open(encoding="utf-8-sig", newline="") as lines:
        header, *rows = csv.reader(lines)
    assert header == table.column_names == list(extract.columns)
    expected = [
        ["" if value is None else str(value) for value in row.values()] for row in table.to_pylist()
    ]
    assert rows == expected
    assert not any(pa.types.is_floating(field.type) for field in table.schema)
    assert table.schema.metadata[b"softcart.production_version"] == b"1"
    for name, description in extract.columns.items():
        assert table.schema.field(name).metadata[b"description"].decode() == description


@pytest.mark.parametrize("extract", EXTRACTS, ids=lambda extract: extract.name)
def test_lineage_is_what_the_sql_uses(extract, production):
    """Compared with the columns that sqlglot finds by another way, with the tables' real
    columns.
    """
    with production.connect() as session:
        tables = read_shapes(session, "production")["production"]
    schema = {"production": {name: dict(columns) for name, columns in tables.items()}}
    query = qualify(
        sqlglot.parse_one(extract.sql, dialect="postgres"), schema=schema, dialect="postgres"
    )
    scope = build_scope(query)
    declared = lineage.sources(extract)
    for name, projection in zip(extract.columns, query.selects, strict=True):
        used = {
            (scope.sources[found.table].name, found.name)
            for found in projection.find_all(exp.Column)
        }
        assert (projection.alias_or_name, set(declared[name])) == (name, used)


def test_all_extracts_show_one_version(staging, tmp_path, monkeypatch):
    """Two sessions write them. A publication that comes when they have begun is seen by neither."""
    with database(template=staging) as changing, database() as production:
        publish(changing, production, TABLES, AUDITS)
        write_one, once = write._write, Lock()
        versions = iter([2])

        def write_after_publication(*arguments: Any) -> ExtractFiles:
            with once:
                for version in versions:
                    with changing.connect() as session:
                        session.execute("UPDATE warehouse.fct_payments SET amount = amount + 1")
                    assert publish(changing, production, TABLES, AUDITS).version == version
            return write_one(*arguments)

        monkeypatch.setattr(write, "_write", write_after_publication)
        payments = [extract for extract in EXTRACTS if extract.name == "ext_payments_daily"]
        with production.connect() as session:
            (before,) = session.execute(f"SELECT sum(amount) {PAID}").fetchone()
        written = write_extracts(production, tmp_path, [EXTRACTS[0], *payments])
        rows = pa.parquet.read_table(written["ext_payments_daily"].parquet)
        assert pa.compute.sum(rows["amount"]).as_py() == before
        assert {files.version for files in written.values()} == {1}
        [files] = write_extracts(production, tmp_path, payments).values()
        assert files.version == 2


def test_values_survive(production, tmp_path):
    extract = Extract(
        "ext_values",
        "",
        dict.fromkeys(("at", "flag", "amount", "small", "words", "day", "number"), ""),
        """
        SELECT '2026-03-01 12:30:00.000001+02'::timestamptz AS at, true AS flag,
               '-1234567890123456.78'::numeric(18, 2) AS amount, 0.000001::numeric(9, 6) AS small,
               E'four bytes 💡, "quoted"\\nand two lines' AS words,
               '1900-01-01'::date AS day, 9223372036854775807 AS number
        UNION ALL SELECT NULL, NULL, NULL::numeric(18, 2), 0::numeric(9, 6), '', NULL, NULL
        """,
    )
    files = write_extracts(production, tmp_path, [extract])["ext_values"]
    first, second = pa.parquet.read_table(files.parquet).to_pylist()
    assert first == {
        "at": datetime(2026, 3, 1, 10, 30, 0, 1, tzinfo=UTC),
        "flag": True,
        "amount": Decimal("-1234567890123456.78"),
        "small": Decimal("0.000001"),
        "words": 'four bytes 💡, "quoted"\nand two lines',
        "day": date(1900, 1, 1),
        "number": 2**63 - 1,
    }
    assert (second["words"], second["at"], str(second["small"])) == ("", None, "0.000000")
    assert files.csv.read_text("utf-8-sig").splitlines()[1:] == [
        '2026-03-01 10:30:00.000001Z,true,-1234567890123456.78,0.000001,"four bytes 💡, ""quoted""',
        'and two lines",1900-01-01,9223372036854775807',
        ',,,0.000000,"",,',
    ]


@pytest.mark.parametrize("extract", EXTRACTS, ids=lambda extract: extract.name)
def test_csv_is_what_arrow_would_write(extract, files, tmp_path):
    """PostgreSQL writes it now. People's tools must not see a difference."""
    table = pa.parquet.read_table(files[extract.name].parquet)
    assert files[extract.name].csv.read_bytes() == _as_arrow_writes(table, tmp_path)


def test_odd_values_are_in_csv_what_arrow_would_write(production, tmp_path):
    texts = [
        "",
        "NULL",
        "NaN",
        "null",
        "\\.",
        "\\N",
        " a ",
        "a,b",
        '"',
        '""',
        "a\r\nb",
        "'",
        "true",
    ]
    literals = ", ".join("E'" + t.replace("\\", "\\\\").replace("'", "''") + "'" for t in texts)
    extract = Extract(
        "ext_odd",
        "",
        dict.fromkeys(("Name, odd", 'quote "d', "at", "flag", "amount", "small", "big"), ""),
        f"""
        SELECT text AS "Name, odd", nullif(text, 'NULL')::varchar(9) AS "quote ""d",
               CASE n WHEN 1 THEN '0001-01-01 00:00Z' WHEN 2 THEN '9999-12-31 23:59:59.999999Z'
                      WHEN 3 THEN NULL ELSE '2026-07-01 12:00+02'
               END::timestamptz AS at,
               nullif(n % 3, 2)::int::boolean AS flag, (n - 4)::numeric(38, 6) AS amount,
               (n - 4)::smallint AS small, '-9223372036854775808'::bigint AS big
        FROM unnest(ARRAY[{literals}]) WITH ORDINALITY AS texts(text, n) ORDER BY n -- a comment
        """,
    )
    files = write_extracts(production, tmp_path, [extract])["ext_odd"]
    table = pa.parquet.read_table(files.parquet)
    assert table["Name, odd"].to_pylist() == texts
    assert table['quote "d'].null_count == 1
    assert [table["at"][n].as_py() for n in (0, 1, 2, 3)] == [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        None,
        datetime(2026, 7, 1, 10, tzinfo=UTC),
    ]
    assert files.csv.read_bytes() == _as_arrow_writes(table, tmp_path)


def _marked(text: str) -> str:
    return "'" * bool(re.match(BEGINS, text)) + re.sub(INSIDE, r"\1'", text)


def _as_arrow_writes(table: pa.Table, folder: Path) -> bytes:
    """The CSV file of a table, with the byte order mark and with marks before formulas."""
    marked = pa.table(
        [
            pa.array([value and _marked(value) for value in column.to_pylist()])
            if pa.types.is_string(column.type)
            else column
            for column in table.columns
        ],
        table.schema,
    )
    pa.csv.write_csv(marked, folder / "arrow.csv")
    return codecs.BOM_UTF8 + (folder / "arrow.csv").read_bytes()


def test_no_text_runs_as_a_formula_and_parquet_is_exact(production, tmp_path):
    """CVE-2014-3524, jazzband/tablib#530: a cell `=HYPERLINK(...)` ran in the spreadsheet."""
    texts = [
        "=1+1",
        "+49 30 901820",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "＝1+1",
        "'=1",
        "''",
        "'",
        " =1",
        "a=1",
        "O'Neil",
        "",
        "red; blue\n\n\tgreen",
        # A spreadsheet that separates at semicolons begins a cell after each.
        "a;=1+1;b",
        "a; =1+1;b",
        'a;"=1+1;b',
        'a; ""=1+1;b',
        "a;'=1;b",
        "a\n=1+1\nb",
        "a\t=1+1\tb",
        ";\t\n@SUM(A1)",
    ]
    literals = ", ".join(sql.Literal(text).as_string() for text in texts)
    extract = Extract(
        "ext_formulas",
        "",
        {"text": "", "amount": ""},
        f"""
        SELECT text, (-1)::numeric(9, 2) AS amount
        FROM unnest(ARRAY[{literals}]) WITH ORDINALITY AS texts(text, n) ORDER BY n
        """,
    )
    files = write_extracts(production, tmp_path, [extract])["ext_formulas"]
    assert pa.parquet.read_table(files.parquet)["text"].to_pylist() == texts
    with files.csv.open(encoding="utf-8-sig", newline="") as lines:
        _, *rows = csv.reader(lines)
    shown = [text for text, _ in rows]
    assert not [text for text in shown if re.match(FORMULA, text)]
    # Who removes the marks has the exact text.
    assert [re.sub(rf"(^|{SEPARATORS})'", r"\1", text) for text in shown] == texts
    unmarked = [text for text, exact in zip(shown, texts, strict=True) if text == exact]
    assert unmarked == ["a=1", "O'Neil", "", "red; blue\n\n\tgreen"]
    plain = pandas.read_csv(files.csv, dtype=str, na_filter=False)
    sniffed = pandas.read_csv(
        files.csv, sep=None, engine="python", encoding="utf-8-sig", dtype=str, na_filter=False
    )
    assert [*plain["text"]] == [*sniffed["text"]] == shown
    for separator in (",", ";", "\t"):
        with files.csv.open(encoding="utf-8-sig", newline="") as lines:
            cells = [cell for row in csv.reader(lines, delimiter=separator) for cell in row]
        runs = [cell for cell in cells if re.match(r"\s*[=+\-@＝＋－＠]", cell)]
        assert set(runs) <= {"-1.00"}, separator
    # A negative number is no text.
    assert {amount for _, amount in rows} == {"-1.00"}


class TestDictionary:
    """`datapackage.json` says what is in the files."""

    @pytest.fixture
    def entries(self, files) -> dict[str, dict[str, Any]]:
        folder = next(iter(files.values())).csv.parent
        package = json.loads((folder / "datapackage.json").read_text("utf-8"))
        assert "Remove one ' from each" in package["description"]
        return {entry["name"]: entry for entry in package["resources"]}

    def test_it_lists_every_file(self, entries, files):
        found = {entry["path"] for entry in entries.values()}
        assert found == {path.name for each in files.values() for path in (each.csv, each.parquet)}
        for each in files.values():
            for name, path in (
                (each.csv.stem, each.csv),
                (f"{each.csv.stem}-parquet", each.parquet),
            ):
                content = path.read_bytes()
                assert entries[name]["bytes"] == len(content)
                assert entries[name]["hash"] == f"sha256:{hashlib.sha256(content).hexdigest()}"

    @pytest.mark.parametrize("extract", EXTRACTS, ids=lambda extract: extract.name)
    def test_every_text_of_the_csv_is_of_the_type(self, entries, files, extract):
        casts: dict[str, Callable[[dict[str, str], str], Any]] = {
            "string": lambda _, text: text,
            "integer": lambda _, text: int(text),
            "number": lambda _, text: Decimal(text),
            "boolean": lambda _, text: {"true": True, "false": False}[text],
            "date": lambda _, text: date.fromisoformat(text),
            "datetime": lambda field, text: datetime.strptime(text, field["format"]).replace(
                tzinfo=UTC
            ),
        }
        fields = entries[extract.name]["schema"]["fields"]
        assert {each["name"]: each["description"] for each in fields} == extract.columns
        table = pa.parquet.read_table(files[extract.name].parquet)
        with files[extract.name].csv.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.DictReader(lines))
        for field in fields:
            cast = casts[field["type"]]
            found = [
                cast(field, row[field["name"]]) if row[field["name"]] else None for row in rows
            ]
            # In a column of texts, an empty text and a missing value look alike here.
            wanted = [None if value == "" else value for value in table[field["name"]].to_pylist()]
            assert found == wanted, field["name"]
        assert files[extract.name].types == {field.name: str(field.type) for field in table.schema}

    def test_it_is_what_the_standard_asks_for(self, files, tmp_path):
        folder = next(iter(files.values())).csv.parent
        profile = tmp_path / "profile.json"
        profile.write_bytes(gzip.decompress((DATA / "datapackage-2.0.json.gz").read_bytes()))
        checked = subprocess.run(
            [
                *(sys.executable, "-m", "check_jsonschema", "--schemafile", profile),
                folder / "datapackage.json",
            ],
            capture_output=True,
            text=True,
        )
        assert checked.returncode == 0, checked.stdout

    def test_it_keeps_declared_extracts_and_forgets_lost_files(self, production, tmp_path):
        first, second = (Extract(f"ext_{n}", "", {"x": ""}, f"SELECT {n} AS x") for n in (1, 2))

        def listed() -> list[str]:
            package = json.loads((tmp_path / "datapackage.json").read_text("utf-8"))
            return [entry["path"] for entry in package["resources"]]

        write_extracts(production, tmp_path, [first])
        write_extracts(production, tmp_path, [second], ["ext_1", "ext_3"])
        assert listed() == ["ext_1.csv", "ext_1.parquet", "ext_2.csv", "ext_2.parquet"]
        (tmp_path / "ext_1.csv").unlink()
        (tmp_path / "datapackage.json").unlink()
        write_extracts(production, tmp_path, [second], ["ext_1"])
        assert listed() == ["ext_1.parquet", "ext_2.csv", "ext_2.parquet"]
        # Nobody declares the first one any more. Its files are still there, and nobody renews them.
        write_extracts(production, tmp_path, [second])
        assert listed() == ["ext_2.csv", "ext_2.parquet"]


def test_an_extract_without_rows_has_its_columns(production, tmp_path):
    extract = Extract("ext_none", "", {"x": "", "y": ""}, "SELECT 1 AS x, 'a' AS y WHERE false")
    files = write_extracts(production, tmp_path, [extract])["ext_none"]
    assert files.csv.read_text("utf-8-sig") == '"x","y"\n'
    table = pa.parquet.read_table(files.parquet)
    assert (table.num_rows, table.column_names) == (0, ["x", "y"])


class TestUnchanged:
    """What would become the same again is not written."""

    NAMES = ("ext_orders_daily", "ext_payments_daily")

    @pytest.fixture(scope="class")
    def databases(self, staging) -> Iterator[tuple[PostgresConnection, PostgresConnection]]:
        with database(template=staging) as changing, database() as production:
            publish(changing, production, TABLES, AUDITS)
            yield changing, production

    @pytest.fixture
    def written(self, databases, tmp_path) -> Callable[..., set[str]]:
        """Writes the extracts. Returns the names of those that were written."""
        extracts = [extract for extract in EXTRACTS if extract.name in self.NAMES]

        def write(changed: Callable[[Extract], Extract] = lambda extract: extract) -> set[str]:
            before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.*")}
            found = write_extracts(databases[1], tmp_path, list(map(changed, extracts)))
            for name, files in found.items():
                for path in (files.parquet, files.csv):
                    assert files.is_new == (path.stat().st_mtime_ns != before.get(path)), name
                assert files.rows == pa.parquet.read_metadata(files.parquet).num_rows
                assert (files.parquet_bytes, files.csv_bytes) == (
                    files.parquet.stat().st_size,
                    files.csv.stat().st_size,
                )
            return {name for name, files in found.items() if files.is_new}

        assert write() == set(self.NAMES)
        return write

    def test_the_same_version(self, written):
        assert written() == set()

    def test_a_publication_without_changes(self, written, databases):
        publish(*databases, TABLES, AUDITS)
        assert written() == set()

    def test_a_changed_table(self, written, databases):
        with databases[0].connect() as session:
            session.execute(
                "UPDATE warehouse.fct_payments SET amount = amount + 1"
                " WHERE payment_id = (SELECT max(payment_id) FROM warehouse.fct_payments)"
            )
        publish(*databases, TABLES, AUDITS)
        assert written() == {"ext_payments_daily"}
        assert written() == set()

    @pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"damaged")])
    @pytest.mark.parametrize("end", ["csv", "parquet"])
    def test_a_file_that_is_not_what_was_written(self, written, tmp_path, end, damage):
        damage(tmp_path / f"ext_orders_daily.{end}")
        assert written() == {"ext_orders_daily"}
        assert written() == set()

    def test_a_changed_declaration(self, written):
        assert written(lambda extract: replace(extract, description="Other.")) == set(self.NAMES)

    def test_a_lost_or_damaged_record(self, written, tmp_path):
        (tmp_path / ".ext_orders_daily.json").unlink()
        (tmp_path / ".ext_payments_daily.json").write_text('{"version": ')
        assert written() == set(self.NAMES)

    def test_an_extract_that_asks_for_the_time(self, written):
        def timed(extract: Extract) -> Extract:
            return replace(extract, sql=extract.sql + "-- as of CURRENT_DATE")

        assert written(timed) == set(self.NAMES)
        assert written(timed) == set(self.NAMES)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT 'infinity'::timestamptz AS x", "infinity"),
        ("SELECT '10000-01-01'::timestamptz AS x", "10000-01-01"),
        ("SELECT '0044-03-15 BC'::date AS x", "0044-03-15 BC"),
        ("SELECT 'NaN'::numeric(9, 2) AS x", "NaN"),
        (
            "SELECT sum(net_amount) AS x FROM production.fct_order_lines",
            "column x has type numeric. Cast it",
        ),
        ("SELECT 1.0::double precision AS x", "column x has type float8. Cast it"),
        ("SELECT 1 AS y", "it declares other columns"),
        ("SELECT x FROM production.dim_nothing", "dim_nothing"),
        ("SELECT 10 / (50000 - x) AS x FROM generate_series(1, 60000) x", "division by zero"),
    ],
)
def test_a_failing_extract_leaves_the_files_as_they_were(production, tmp_path, query, message):
    first = Extract("ext_first", "", {"x": ""}, "SELECT 1 AS x")
    sound = Extract("ext_x", "", {"x": ""}, "SELECT 1 AS x")
    write_extracts(production, tmp_path, [first, sound])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    # The first one could be written, and would be of another version than the rest.
    changed = Extract("ext_first", "", first.columns, "SELECT 2 AS x")
    with pytest.raises(ExtractError, match=f"extracts/ext_x.*{message}"):
        write_extracts(production, tmp_path, [changed, Extract("ext_x", "", sound.columns, query)])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_nothing_published_yet(postgres, tmp_path: Path):
    with pytest.raises(ExtractError, match="SOFTCART_STAGING_DATABASE"):
        write_extracts(postgres, tmp_path, EXTRACTS)


@pytest.fixture(scope="module")
def in_two_currencies(stack) -> Iterator[PostgresConnection]:
    """A production in which some orders are in yen."""
    with database() as warehouse, database() as connection:
        create_warehouse(warehouse, orders=500)
        with warehouse.connect() as session:
            session.execute(
                "UPDATE warehouse.fct_order_lines SET currency = 'JPY' WHERE order_id % 50 = 0"
            )
        publish(warehouse, connection, TABLES, AUDITS)
        yield connection


def test_no_extract_adds_up_two_currencies(
    in_two_currencies: PostgresConnection, tmp_path: Path
) -> None:
    """odoo/odoo#30215, odoo/odoo#8612, woocommerce/woocommerce#22823: yen were added to euros."""
    files = write_extracts(in_two_currencies, tmp_path, EXTRACTS)
    for extract in EXTRACTS:
        money = [name for name in extract.columns if re.search(r"(^|_)amount($|_)", name)]
        assert "currency" in extract.columns or not money, extract.name
        assert "EUR" not in " ".join((extract.description, *extract.columns.values()))
    with in_two_currencies.connect() as session:
        wanted = session.execute(
            f"SELECT currency, sum(net_amount) {SOLD} GROUP BY currency ORDER BY currency"
        ).fetchall()
    assert [currency for currency, _ in wanted] == ["EUR", "JPY"]
    for name in ("ext_sales_overview", "ext_orders_daily", "ext_top_products"):
        table = pa.parquet.read_table(files[name].parquet)
        sums = table.group_by("currency").aggregate([("net_amount", "sum")]).to_pylist()
        found = [(row["currency"], row["net_amount_sum"]) for row in sums]
        assert sorted(found) == wanted


def test_a_bar_code_as_pieces_stops_no_extract(staging: PostgresConnection, tmp_path: Path) -> None:
    """academic-moodle-cooperation/moodle-mod_offlinequiz#91: a rate was as narrow as usual ones."""
    with database(template=staging) as warehouse, database() as connection:
        with warehouse.connect() as session:
            session.execute(
                "UPDATE warehouse.fct_order_lines SET returned_quantity = 2147483647"
                " WHERE (order_id, line_number) = (SELECT order_id, line_number"
                " FROM warehouse.fct_order_lines WHERE NOT is_cancelled LIMIT 1)"
            )
        publish(warehouse, connection, TABLES, AUDITS)
        files = write_extracts(connection, tmp_path, EXTRACTS)
    rates = pa.parquet.read_table(files["ext_top_products"].parquet)["return_rate_pct"]
    assert pa.compute.max(rates).as_py() > 10_000_000


def test_an_order_without_a_plausible_date_moves_no_period_of_the_dashboard(
    staging: PostgresConnection, production: PostgresConnection
) -> None:
    """rilldata/rill#685: with one order in 2049, the dashboard fell to the sales of that day."""
    before = cube.read(production, SALES)
    with database(template=staging) as warehouse, database() as connection:
        with warehouse.connect() as session:
            session.execute(
                "UPDATE warehouse.fct_order_lines"
                " SET order_date = '1900-01-01', ordered_at = '2049-01-01' WHERE order_id = 100"
            )
        publish(warehouse, connection, TABLES, AUDITS)
        with connection.connect() as session:
            undated, amount = session.execute(
                f"SELECT count(*), sum(net_amount) {SOLD} AND order_id = 100"
            ).fetchone() or (0, 0)
        content = cube.read(connection, SALES)
    assert undated
    says = next(iter(SALES.cube.remarks))
    told, told_before = (opened(each.archive)[0] for each in (content, before))
    assert (told["remarks"][says], told_before["remarks"][says]) == (undated, 0)
    for name in ("asOf", "first", "last"):
        assert told[name] == told_before[name], name
    assert content.totals["EUR"]["revenue"] == before.totals["EUR"]["revenue"] - amount * 100


def test_a_page_and_its_pictures_are_of_one_version(
    in_two_currencies: PostgresConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were read one after the other, so a publication in between came into the pictures."""
    connects: list[str] = []
    connect = PostgresConnection.connect

    def counted(self: PostgresConnection, **options: Any) -> Any:
        connects.append(self.database)
        return connect(self, **options)

    monkeypatch.setattr(PostgresConnection, "connect", counted)
    page = build_page(in_two_currencies, SALES, tmp_path / "page.html")
    assert page.pictures
    assert connects == [in_two_currencies.database]


def test_one_order_in_another_currency_does_not_take_the_dashboard_away(
    in_two_currencies: PostgresConnection,
) -> None:
    """Each currency is shown by itself."""
    told, columns = opened(cube.read(in_two_currencies, SALES).archive)
    parts = column(told["cube"]["kinds"]["currency"], columns)
    codes = [parts[kind] for kind in column(told["cube"]["events"]["kind"], columns)]
    with in_two_currencies.connect() as session:
        orders = dict(
            session.execute(
                f"SELECT currency, count(DISTINCT order_id) {SOLD} GROUP BY currency"
            ).fetchall()
        )
    shown = Counter(told["cube"]["paths"]["currency"][code][0] for code in codes)
    assert shown["JPY"] == orders["JPY"]
    assert sum(shown.values()) == sum(orders.values())


def test_the_totals_and_pictures_of_a_page_add_up_no_two_currencies(
    in_two_currencies: PostgresConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = cube.read(in_two_currencies, SALES)
    with in_two_currencies.connect() as session:
        wanted = session.execute(
            f"SELECT currency, sum(net_amount) * 100, count(DISTINCT order_id) {SOLD}"
            " GROUP BY currency"
        ).fetchall()
    assert {currency: sums["revenue"] for currency, sums in content.totals.items()} == {
        currency: revenue for currency, revenue, _ in wanted
    }
    assert content.course is not None
    months = content.course.months.values()
    summed = (sum(m["revenue"] for m in months), sum(m["events"] for m in months))
    assert (content.course.currency, *summed) in wanted
    with in_two_currencies.connect() as session:
        by_month = session.execute(
            "SELECT date_trunc('month', order_date)::date::text, sum(net_amount), "
            f"count(DISTINCT order_id) {SOLD} AND currency = %s GROUP BY 1",
            [content.course.currency],
        ).fetchall()
    drawn = pictured(monkeypatch, SALES, content.course)
    assert {*drawn} == {"revenue", "orders"}
    for name, place in (("revenue", 1), ("orders", 2)):
        found = {row[0]: float(row[place]) for row in by_month}
        assert drawn[name] == {month: found.get(month, 0) for month in drawn[name]}
        # Two years, and the month that is not over.
        assert (len(drawn[name]), max(drawn[name])) == (25, max(found))

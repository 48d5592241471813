"""Writes extracts as Parquet and CSV.

PostgreSQL writes the CSV file, and Arrow makes the Parquet file from that, in blocks of bounded
size. No value becomes a Python object on the way, which would take most of the time. All files get
their names when the last one is complete. Values are exact: decimals keep PostgreSQL's precision
and scale, times are UTC with microseconds. Only in CSV, a text that a spreadsheet could run as a
formula has a mark before it, see `dictionary`.

An extract is left as it is while its tables, its declaration and its files are the same.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any, Self, TypeVar

import psycopg
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet
from psycopg import IsolationLevel, sql

from softcart_assets.connections import PostgresConnection
from softcart_assets.extracts import dictionary, kept, lineage
from softcart_assets.extracts.totals import Figures, compared
from softcart_assets.lineage import may_change_by_itself
from softcart_assets.lines.model import Extract

BLOCK_BYTES = 4 * 2**20
"""So much of a CSV file is in memory at once, and no row may be longer."""

AT_ONCE = 2
"""So many extracts are written at the same time. A server sorts one of them on one core."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_TYPES: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "text": pa.string(),
    "varchar": pa.string(),
    "date": pa.date32(),
    "timestamptz": pa.timestamp("us", "UTC"),
}
"""PostgreSQL type → Arrow type, except decimals. No floating point: the warehouse has none."""


MAX_SCALE = 6
"""The most digits after the decimal point. With more, Arrow writes small numbers as 1E-7 in CSV."""


class ExtractError(RuntimeError):
    """An extract could not be written. The files of earlier runs stay as they were."""


@dataclass(frozen=True)
class ExtractFiles:
    """The files of one extract, their sizes, and the version of production that they contain.

    `types`: the Arrow type of each column. `entries`: what the data dictionary says of the files.
    `data_version`: a number of what they were made of. `is_new`: whether they were written now. If
    not, the present version of production has the same rows. `figures`: how they compare with it.
    """

    parquet: Path
    csv: Path
    rows: int
    parquet_bytes: int
    csv_bytes: int
    version: int
    types: Mapping[str, str]
    entries: Sequence[dict[str, Any]]
    data_version: str
    is_new: bool
    figures: Figures


def write_extracts(
    production: PostgresConnection,
    directory: Path,
    extracts: Sequence[Extract],
    others: Collection[str] = (),
) -> dict[str, ExtractFiles]:
    """Write `<directory>/<name>.parquet` and `.csv` of extracts, from one version of production.

    `others`: the names of the other extracts that are declared for the folder.
    Files that would become the same again are not written.
    Returns the files by the name of the extract. The metadata of the Parquet file has the version
    (`softcart.production_version`) and the descriptions of the columns. The CSV file is UTF-8 with
    a byte order mark and a header. Its texts are quoted, so an empty text differs from null.
    `datapackage.json` describes these extracts and the others, as far as their files are there.
    Raises `ExtractError` if nothing is published yet or a file cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    # Inside the directory, because a file can be renamed only within one file system.
    with (
        _Snapshot(production) as snapshot,
        TemporaryDirectory(dir=directory, prefix=".extracts-") as temporary,
    ):
        readers = {table: each for each in extracts for table in lineage.tables_read(each)}

        def table_version(session: psycopg.Connection, table: str) -> str:
            with _named(readers[table], directory):
                return kept.table_version(session, table)

        versions = dict(zip(readers, snapshot.map(table_version, readers), strict=True))

        def write(session: psycopg.Connection, extract: Extract) -> ExtractFiles:
            version = _version(extract, versions)
            with _named(extract, directory):
                return _kept(directory, extract, version) or _write(
                    session, extract, Path(temporary), snapshot.version, version
                )

        written = snapshot.map(write, extracts)
        # All at the end. A failure in the middle would leave files of two versions.
        found = {
            extract.name: _moved(files, directory)
            for extract, files in zip(extracts, written, strict=True)
        }
        for name, files in found.items():
            if files.is_new:
                told = {
                    "rows": files.rows,
                    "version": files.version,
                    "figures": files.figures,
                    "types": files.types,
                    "entries": files.entries,
                }
                kept.keep(directory, name, files.data_version, (files.parquet, files.csv), told)
        dictionary.update(directory, {*found, *others})
        return found


@contextmanager
def _named(extract: Extract, directory: Path) -> Iterator[None]:
    """Turn what went wrong into an error that names the extract."""
    try:
        yield
    except (psycopg.Error, pa.ArrowException, OSError) as error:
        raise ExtractError(
            f"extracts/{extract.name} was not written to {directory} (SOFTCART_EXTRACTS_DIR): "
            f"{error}"
        ) from error


class _Snapshot:
    """Sessions that see the same state of production, for a few things at once.

    `version`: the published version. Raises `ExtractError` if there is none.
    """

    version: int

    def __init__(self, production: PostgresConnection) -> None:
        self._production = production
        self._opened = ExitStack()
        # A session serves one caller at a time.
        self._idle: SimpleQueue[psycopg.Connection] = SimpleQueue()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            first = self._open(opened)
            try:
                row = first.execute(
                    "SELECT version, pg_export_snapshot() FROM production_meta.current"
                ).fetchone()
            except psycopg.errors.UndefinedTable:
                row = None
            if row is None:
                raise ExtractError(
                    f"Nothing is published in {self._production.database!r} yet: materialise the "
                    f"group `production`, or correct {self._production.prefix}_DATABASE."
                )
            self.version = row[0]
            for _ in range(AT_ONCE - 1):
                # A publication may switch in between.
                self._open(opened).execute(
                    sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(row[1]))
                )
            self._threads = opened.enter_context(ThreadPoolExecutor(AT_ONCE))
            self._opened = opened.pop_all()
        return self

    def _open(self, opened: ExitStack) -> psycopg.Connection:
        session = opened.enter_context(
            self._production.connect(application_name="softcart extracts")
        )
        session.isolation_level = IsolationLevel.REPEATABLE_READ
        session.read_only = True
        self._idle.put(session)
        return session

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    def map(
        self, work: Callable[[psycopg.Connection, _Item], _Result], items: Iterable[_Item]
    ) -> list[_Result]:
        """The results of `work` with a session and each item. Raises the first error."""

        def do(item: _Item) -> _Result:
            session = self._idle.get()
            try:
                return work(session, item)
            finally:
                self._idle.put(session)

        return list(self._threads.map(do, items))


def code_version(extract: Extract) -> str:
    """A number of the code of an extract: of its declaration, and of what writes its files."""
    return kept.digest(
        [
            kept.code_version("softcart_assets.extracts"),
            extract.sql,
            extract.description,
            list(extract.columns.items()),
            list(extract.totals.items()),
        ]
    )


def _version(extract: Extract, versions: Mapping[str, str]) -> str:
    """The version of an extract, from the versions of all tables."""
    tables = [versions[table] for table in lineage.tables_read(extract)]
    return kept.digest([code_version(extract), tables])


def _kept(directory: Path, extract: Extract, version: str) -> ExtractFiles | None:
    """The files in the directory, if they are what would be written."""
    if may_change_by_itself(extract.sql):
        return None
    told = kept.find(directory, extract.name, version)
    if told is None:
        return None
    parquet, csv = directory / f"{extract.name}.parquet", directory / f"{extract.name}.csv"
    sizes = parquet.stat().st_size, csv.stat().st_size
    return ExtractFiles(
        parquet,
        csv,
        told["rows"],
        *sizes,
        told["version"],
        told["types"],
        told["entries"],
        data_version=version,
        is_new=False,
        figures=told["figures"],
    )


def _moved(files: ExtractFiles, directory: Path) -> ExtractFiles:
    return replace(
        files,
        parquet=files.parquet.replace(directory / files.parquet.name),
        csv=files.csv.replace(directory / files.csv.name),
    )


def _write(
    session: psycopg.Connection,
    extract: Extract,
    directory: Path,
    version: int,
    data_version: str,
) -> ExtractFiles:
    parquet, csv = directory / f"{extract.name}.parquet", directory / f"{extract.name}.csv"
    query = f"({extract.sql.strip().removesuffix(';')}\n) AS extract"
    described = session.execute(f"SELECT * FROM {query} LIMIT 0".encode())
    schema = _schema(described, extract, version)
    rows = _copy_csv(session, query, schema, csv)
    if (read := _to_parquet(csv, parquet, schema)) != rows:
        raise ExtractError(
            f"extracts/{extract.name}: PostgreSQL wrote {rows} rows, and Arrow read {read} of them."
        )
    sizes = parquet.stat().st_size, csv.stat().st_size
    types = {field.name: str(field.type) for field in schema}
    entries = dictionary.resources(extract, schema, csv, parquet, version)
    return ExtractFiles(
        parquet,
        csv,
        rows,
        *sizes,
        version,
        types,
        entries,
        data_version,
        is_new=True,
        figures=compared(
            lambda query: session.execute(query.encode()).fetchone() or (), extract, rows, parquet
        ),
    )


def _copy_csv(session: psycopg.Connection, query: str, schema: pa.Schema, path: Path) -> int:
    """Write the result of a query as CSV. Returns the number of rows."""
    names = {field.name: sql.Identifier(field.name).as_string() for field in schema}
    values = ", ".join(_as_csv(names[field.name], field.type) for field in schema)
    texts = ", ".join(names[field.name] for field in schema if pa.types.is_string(field.type))
    options = f"FORMAT csv{f', FORCE_QUOTE ({texts})' if texts else ''}"
    statement = f"COPY (SELECT {values} FROM {query}) TO STDOUT ({options})"
    with (
        path.open("wb") as file,
        session.cursor() as cursor,
        cursor.copy(statement.encode()) as blocks,
    ):
        # Here, because COPY would quote only those names that need it.
        header = ['"{}"'.format(name.replace('"', '""')) for name in names]
        # Without a byte order mark, Excel reads the file in the code page of the machine.
        file.write(codecs.BOM_UTF8 + ",".join(header).encode() + b"\n")
        for block in blocks:
            file.write(block)
        return cursor.rowcount


def _as_csv(column: str, kind: pa.DataType) -> str:
    """How a column is written. COPY alone would write `t`, the time zone `+00`, and formulas."""
    if pa.types.is_boolean(kind):
        return f"{column}::text AS {column}"
    if pa.types.is_string(kind):
        # Few texts have a place for a mark, and to look for one is cheap.
        may_need = sql.Literal(rf"^ *[^ \w]|{dictionary.SEPARATORS}").as_string()
        begins, inside, mark, marked = (
            sql.Literal(text).as_string()
            for text in (
                dictionary.BEGINS,
                dictionary.INSIDE,
                dictionary.MARK,
                rf"\1{dictionary.MARK}",
            )
        )
        return (
            f"CASE WHEN {column} ~ {may_need} THEN "
            f"CASE WHEN {column} ~ {begins} THEN {mark} ELSE '' END"
            f" || regexp_replace({column}, {inside}, {marked}, 'g')"
            f" ELSE {column} END AS {column}"
        )
    if pa.types.is_timestamp(kind):
        # Outside of these years, to_char leaves something out. Arrow refuses the text of those.
        return (
            f"CASE WHEN {column} BETWEEN '0001-01-01 00:00Z' AND '9999-12-31 23:59:59.999999Z'"
            f" THEN to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US\"Z\"')"
            f" ELSE {column}::text END AS {column}"
        )
    return column


def _to_parquet(csv: Path, parquet: Path, schema: pa.Schema) -> int:
    """Write the rows of a CSV file as Parquet. Returns their number."""
    rows = 0
    with (
        pyarrow.csv.open_csv(
            csv,
            pyarrow.csv.ReadOptions(block_size=BLOCK_BYTES),
            pyarrow.csv.ParseOptions(newlines_in_values=True),
            pyarrow.csv.ConvertOptions(
                column_types={field.name: field.type for field in schema},
                # A text is quoted, so an empty one is not null.
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                true_values=["true"],
                false_values=["false"],
            ),
        ) as batches,
        pyarrow.parquet.ParquetWriter(parquet, schema, compression="zstd") as writer,
    ):
        for batch in batches:
            columns = [_without_mark(column) for column in batch.columns]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
            rows += batch.num_rows
    return rows


def _without_mark(column: pa.Array) -> pa.Array:
    """A column as it was before `_as_csv` marked its texts."""
    if not pa.types.is_string(column.type):
        return column
    return pa.compute.replace_substring_regex(
        column, pattern=rf"(\A|{dictionary.SEPARATORS}){dictionary.MARK}", replacement=r"\1"
    )


def _schema(result: psycopg.Cursor, extract: Extract, version: int) -> pa.Schema:
    described = result.description or []
    names = [column.name for column in described]
    if names != list(extract.columns):
        raise ExtractError(
            f"extracts/{extract.name}: its SQL returns {names}, but it declares other columns."
        )
    fields = []
    for found, description in zip(described, extract.columns.values(), strict=True):
        base = result.adapters.types.get(found.type_code)
        # A numeric without precision and scale has values that no decimal type of Arrow holds.
        if found.precision is not None and found.scale is not None and found.scale <= MAX_SCALE:
            type_ = pa.decimal128(found.precision, found.scale)
        elif base is not None and base.name in _TYPES:
            type_ = _TYPES[base.name]
        else:
            raise ExtractError(
                f"extracts/{extract.name}: column {found.name} has type {found.type_display}. Cast "
                f"it in the extract's SQL to numeric(p, s) with at most {MAX_SCALE} decimals, or "
                f"to one of {', '.join(_TYPES)}."
            )
        fields.append(pa.field(found.name, type_, metadata={"description": description}))
    metadata = {
        "softcart.production_version": str(version),
        "softcart.description": extract.description,
    }
    return pa.schema(fields, metadata)

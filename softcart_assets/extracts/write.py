"""Writes extracts as Parquet and CSV.

One read produces both files of an extract, in batches of bounded size. All files get their names
when the last one is complete. Values are exact: decimals keep PostgreSQL's precision and scale,
times are UTC with microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from psycopg import IsolationLevel

from softcart_assets.connections import PostgresConnection
from softcart_assets.lines.model import Extract

BATCH_ROWS = 20_000
"""Rows in memory at once."""

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
    """The files of one extract, their sizes, and the version of production that they contain."""

    parquet: Path
    csv: Path
    rows: int
    parquet_bytes: int
    csv_bytes: int
    version: int


def write_extracts(
    production: PostgresConnection, directory: Path, extracts: Sequence[Extract]
) -> dict[str, ExtractFiles]:
    """Write `<directory>/<name>.parquet` and `.csv` of extracts, from one version of production.

    Returns the files by the name of the extract. The metadata of the Parquet file has the version
    (`softcart.production_version`) and the descriptions of the columns. The CSV file is UTF-8 with
    a header. Its texts are quoted, so an empty text differs from null.
    Raises `ExtractError` if nothing is published yet or a file cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with production.connect(application_name="softcart extracts") as session:
        # One snapshot for the version and all extracts. A publication may switch in between.
        session.isolation_level = IsolationLevel.REPEATABLE_READ
        session.read_only = True
        try:
            row = session.execute("SELECT version FROM production_meta.current").fetchone()
        except psycopg.errors.UndefinedTable:
            row = None
        if row is None:
            raise ExtractError(
                f"Nothing is published in {production.database!r} yet: materialise the group "
                f"`production`, or correct {production.prefix}_DATABASE."
            )
        # Inside the directory, because a file can be renamed only within one file system.
        with TemporaryDirectory(dir=directory, prefix=".extracts-") as temporary:
            written = {}
            for extract in extracts:
                try:
                    written[extract.name] = _write(session, extract, Path(temporary), row[0])
                except (psycopg.Error, pa.ArrowException, OSError) as error:
                    raise ExtractError(
                        f"extracts/{extract.name} was not written to {directory} "
                        f"(SOFTCART_EXTRACTS_DIR): {error}"
                    ) from error
            # All at the end. A failure in the middle would leave files of two versions.
            return {name: _moved(files, directory) for name, files in written.items()}


def _moved(files: ExtractFiles, directory: Path) -> ExtractFiles:
    return replace(
        files,
        parquet=files.parquet.replace(directory / files.parquet.name),
        csv=files.csv.replace(directory / files.csv.name),
    )


def _write(
    session: psycopg.Connection, extract: Extract, directory: Path, version: int
) -> ExtractFiles:
    parquet, csv = directory / f"{extract.name}.parquet", directory / f"{extract.name}.csv"
    # The cursor has a name, so the server keeps the result and sends it in batches.
    with session.cursor(extract.name) as rows:
        rows.itersize = BATCH_ROWS
        rows.execute(extract.sql.encode())
        schema = _schema(rows, extract, version)
        count = 0
        with (
            pyarrow.parquet.ParquetWriter(parquet, schema, compression="zstd") as parquet_writer,
            pyarrow.csv.CSVWriter(csv, schema) as csv_writer,
        ):
            while batch := rows.fetchmany(BATCH_ROWS):
                columns = zip(*batch, strict=True)
                arrays = [
                    pa.array(values, field.type)
                    for values, field in zip(columns, schema, strict=True)
                ]
                table = pa.Table.from_arrays(arrays, schema=schema)
                parquet_writer.write_table(table)
                csv_writer.write_table(table)
                count += len(batch)
    return ExtractFiles(parquet, csv, count, parquet.stat().st_size, csv.stat().st_size, version)


def _schema(rows: psycopg.ServerCursor, extract: Extract, version: int) -> pa.Schema:
    described = rows.description or []
    names = [column.name for column in described]
    if names != list(extract.columns):
        raise ExtractError(
            f"extracts/{extract.name}: its SQL returns {names}, but it declares other columns."
        )
    fields = []
    for found, description in zip(described, extract.columns.values(), strict=True):
        base = rows.adapters.types.get(found.type_code)
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

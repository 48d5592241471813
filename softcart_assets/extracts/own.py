"""Writes the reports of a source about itself as Parquet and CSV, from its own database.

They are small: a source is an operational database, so they are sums. A report is written each time
that it is asked for, as only the source's log could tell whether it would become the same.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet

from softcart_assets.extracts import dictionary, kept
from softcart_assets.extracts.totals import Figures, compared
from softcart_assets.extracts.write import ExtractError
from softcart_assets.ingestion.connectors import Result, ResultColumn, SourceMoment
from softcart_assets.lines.model import Extract

_PRECISION = 38
"""Of Arrow's decimals. MySQL does not tell the precision of a sum."""


@dataclass(frozen=True)
class Report:
    """The files of one report.

    `at`: the moment of the source. `types`: the Arrow type of each column. `content`: a checksum of
    the rows. `figures`: how they compare with the source's tables.
    """

    parquet: Path
    csv: Path
    rows: int
    at: datetime
    types: dict[str, str]
    content: str
    figures: Figures


def write_reports(
    moment: SourceMoment,
    directory: Path,
    reports: Sequence[Extract],
    others: Collection[str] = (),
) -> dict[str, Report]:
    """Write `<directory>/<name>.parquet` and `.csv` of reports, at one moment of their source.

    `others`: the names of the other extracts that are declared for the folder.
    Returns the files by the name of the report. The formats are those of the extracts. Raises
    `ExtractError` if the SQL gives other columns than declared, or some without a type for files.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=directory, prefix=".reports-") as temporary:
        written = [_write(moment, Path(temporary), report) for report in reports]
        # All at the end. A failure in the middle would leave files of two moments.
        found = {}
        for report, (file, entries) in zip(reports, written, strict=True):
            file.parquet.replace(parquet := directory / file.parquet.name)
            file.csv.replace(csv := directory / file.csv.name)
            found[report.name] = Report(
                parquet, csv, file.rows, file.at, file.types, file.content, file.figures
            )
            kept.keep(directory, report.name, file.content, (parquet, csv), {"entries": entries})
    dictionary.update(directory, {*found, *others})
    return found


def _write(
    moment: SourceMoment, folder: Path, report: Extract
) -> tuple[Report, list[dict[str, Any]]]:
    """Write a report to a folder. Returns its files, and what the data dictionary says of them."""
    parquet, csv = folder / f"{report.name}.parquet", folder / f"{report.name}.csv"
    result = moment.result(report.sql, {})
    table = _table(report, result)
    pyarrow.parquet.write_table(table, parquet, compression="zstd")
    with csv.open("wb") as file:
        file.write(codecs.BOM_UTF8)
        pyarrow.csv.write_csv(_marked(table), file)

    def row_of(query: str) -> Sequence[Any]:
        return moment.result(query, {}).rows[0]

    made = Report(
        parquet,
        csv,
        table.num_rows,
        moment.at,
        {field.name: str(field.type) for field in table.schema},
        kept.digest([report.sql, list(report.columns.items()), kept.checksum(parquet)]),
        compared(row_of, report, len(result.rows), parquet),
    )
    return made, dictionary.resources(report, table.schema, csv, parquet)


def _table(report: Extract, result: Result) -> pa.Table:
    names = [column.name for column in result.columns]
    if names != list(report.columns):
        raise ExtractError(
            f"{report.declared_at}: the SQL of {report.name} returns {names}, but it declares "
            "other columns."
        )
    fields = [
        pa.field(column.name, _type(report, column), metadata={"description": description})
        for column, description in zip(result.columns, report.columns.values(), strict=True)
    ]
    columns = [list(values) for values in zip(*result.rows, strict=True)] or [[] for _ in fields]
    schema = pa.schema(fields, {"softcart.description": report.description})
    return pa.table(columns, schema=schema)


def _type(report: Extract, column: ResultColumn) -> pa.DataType:
    if column.kind == "decimal":
        return pa.decimal128(_PRECISION, column.scale)
    known = {
        "integer": pa.int64(),
        "text": pa.string(),
        "date": pa.date32(),
        "timestamp": pa.timestamp("us", "UTC"),
    }
    if column.kind not in known:
        raise ExtractError(
            f"{report.declared_at}: column {column.name} of {report.name} has no type for files. "
            "Cast it in the SQL to bigint, numeric(p, s), text, date or timestamp."
        )
    return known[column.kind]


def _marked(table: pa.Table) -> pa.Table:
    """A table whose texts no spreadsheet runs as a formula, see `dictionary`."""
    for place, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            marked = [
                None if text is None else dictionary.marked(text)
                for text in table[place].to_pylist()
            ]
            table = table.set_column(place, field, pa.array(marked, pa.string()))
    return table

"""Documents as rows: batches of typed values, and the documents that do not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import bson
import pyarrow as pa
from bson import json_util

from softcart_assets.ingestion.codec.documents import Decoder
from softcart_assets.ingestion.connectors.mongodb.columns import others_of
from softcart_assets.ingestion.connectors.mongodb.values import OPTIONS, RELAXED, fit, id_text
from softcart_assets.ingestion.types import Batch, Column, Rejected, Unfit
from softcart_assets.lines.model import Table


def decoder_for(columns: Sequence[Column]) -> Decoder:
    """Return a decoder for a collection's columns."""
    return Decoder(columns, others_of(columns))


def decoded(table: Table, columns: Sequence[Column], decoder: Decoder, raw: bytes) -> Batch:
    """Return documents that stand end to end as a batch."""
    others = decoder.add(raw)
    rows = decoder.take()
    if not others:
        return Batch(rows)
    batch = batch_of(table, columns, [_document(document) for document in others])
    return Batch(pa.concat_batches([rows, batch.rows]), batch.rejected)


def _document(raw: bytes) -> dict[str, Any] | bytes:
    """Decode a document. Returns its bytes if some text in it is not UTF-8."""
    try:
        document: dict[str, Any] = bson.decode(raw, OPTIONS)
        return document
    except bson.errors.InvalidBSON:
        return raw


def batch_of(
    table: Table, columns: Sequence[Column], documents: Sequence[dict[str, Any] | bytes]
) -> Batch:
    """Return documents as a batch.

    A document is rejected as a whole if it cannot be decoded, or has a value that does not fit.
    """
    rows, rejected = [], []
    others = others_of(columns)
    for document in documents:
        if isinstance(document, bytes):
            # Decoded with replacements, only to name the document. Its bytes go to the quarantine
            # unchanged.
            lenient = bson.decode(
                document, OPTIONS.with_options(unicode_decode_error_handler="replace")
            )
            text = json_util.dumps(lenient, json_options=RELAXED)
            key = id_text(lenient["_id"])
            rejected.append(
                Rejected(
                    key,
                    None,
                    "document",
                    "invalid UTF-8",
                    {"document": text, "bson": document.hex()},
                )
            )
            continue
        key = id_text(document["_id"])
        row, reasons = _fitted(columns, others, document, key)
        if not reasons:
            rows.append(row)
            continue
        cursor = (
            document.get(table.cursor) if table.cursor and table.cursor not in reasons else None
        )
        if isinstance(cursor, datetime):
            # Always with microseconds, as PostgreSQL prints a timestamp here.
            cursor = cursor.strftime("%Y-%m-%d %H:%M:%S.%f")
        rejected.append(
            Rejected(
                None if "_id" in reasons else key,
                None if cursor is None else str(cursor),
                # The whole document has the value that does not fit, too. The field says more.
                next(
                    name
                    for name in (*reasons, "document")
                    if name != "document" or len(reasons) == 1
                ),
                "; ".join(f"{name}: {reason}" for name, reason in reasons.items()),
                {"document": json_util.dumps(document, json_options=RELAXED)},
            )
        )
    values = zip(*rows, strict=True) if rows else [()] * len(columns)
    arrays = [pa.array(v, c.arrow_type) for c, v in zip(columns, values, strict=True)]
    return Batch(pa.RecordBatch.from_arrays(arrays, names=[c.name for c in columns]), rejected)


def _fitted(
    columns: Sequence[Column],
    others: Mapping[str, str],
    document: Mapping[str, Any],
    key: tuple[str, str],
) -> tuple[list[Any], dict[str, str]]:
    """Return a document's values for the columns, and the columns with values that do not fit."""
    field_of = {second: name for name, second in others.items()}
    # No field has a column of other values as its own.
    values = {name: value for name, value in document.items() if name not in field_of}
    values |= {"_id": key[0], "_id_type": key[1], "document": document}
    row: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    # First the columns whose values may have to go to another one.
    for column in sorted(columns, key=lambda column: column.name not in others):
        try:
            row[column.name] = fit(column, values.get(column.name))
        except Unfit as unfit:
            if column.name in others:
                row[column.name], values[others[column.name]] = None, values[column.name]
            else:
                reasons[field_of.get(column.name, column.name)] = str(unfit)
    return [row.get(column.name) for column in columns], reasons

"""Counts the rows of a person in Parquet files, with one row group of memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from softcart_assets.lake import source_names
from softcart_assets.lines.model import CONTACTS, CUSTOMER
from softcart_assets.privacy.handles import EMAIL, LINE, PHONE, undecided
from softcart_assets.privacy.person import email_form, phone_form

_BATCH_ROWS = 50_000
_FORMS: Mapping[str, Callable[[str], str]] = {EMAIL: email_form, PHONE: phone_form}

Values = Callable[[str], Sequence[str]]
"""The values of a person that a handle leads to."""


class Undecided(RuntimeError):
    """A file has customers of several lines, and does not say of which. The message names it."""


def files_below(store: fs.FileSystem, folder: str) -> list[str]:
    """All Parquet files below a folder, in the order of their names. Empty if it is not there."""
    selector = fs.FileSelector(folder, recursive=True, allow_not_found=True)
    found = store.get_file_info(selector)
    return sorted(each.path for each in found if each.extension == "parquet")


def is_whole(store: fs.FileSystem, path: str) -> bool:
    """Whether a file can be read. One that is written or deleted at this moment cannot."""
    try:
        with store.open_input_file(path) as opened:
            pq.read_metadata(opened)
    except (pa.ArrowInvalid, FileNotFoundError):
        return False
    return True


def count_rows(
    store: fs.FileSystem, path: str, found_by: Mapping[str, Collection[str]], values: Values
) -> int:
    """The rows of a person in a file.

    `found_by`: the columns by which they are found, with their handles, as in `Person.matching`.
    Raises `Undecided`.
    """
    with store.open_input_file(path) as opened:
        file = pq.ParquetFile(opened)
        names = source_names(file.schema_arrow)
        handles = {names[column]: found_by[column] for column in found_by if column in names}
        # A file may have no column of its own, and still rows of another layout.
        if not handles:
            return 0
        if several := undecided(found_by, names):
            raise Undecided(
                f"{path}: {', '.join(several)} has customers of several lines, and no column tells "
                f"of which. Add {LINE}."
            )
        line = names.get(LINE)
        columns = sorted({*handles, *([line] if line else [])})
        batches = file.iter_batches(_BATCH_ROWS, columns=columns)
        return sum(
            int(pc.sum(_matching(batch, handles, values, line)).as_py() or 0) for batch in batches
        )


def _matching(
    batch: pa.RecordBatch,
    handles: Mapping[str, Collection[str]],
    values: Values,
    line: str | None,
) -> pa.Array:
    """Which rows are the person's. A contact decides only where nobody is named.

    `line`: the column that says of which line a customer is, if there is one.
    """
    found = nobody = None
    for column, told in handles.items():
        array = batch.column(column)
        named = [handle for handle in told if handle not in CONTACTS]
        for handle in named:
            each = pc.is_in(
                array.cast(pa.string()), value_set=pa.array(list(values(handle)), pa.string())
            )
            if line and handle.startswith(CUSTOMER) and len(told) > 1:
                lines = batch.column(line).cast(pa.string())
                is_line = pc.equal(lines, handle.removeprefix(f"{CUSTOMER} "))
                each = pc.and_(each, pc.fill_null(is_line, fill_value=False))
            found = each if found is None else pc.or_(found, each)
        if named:
            is_null = pc.is_null(array)
            nobody = is_null if nobody is None else pc.and_(nobody, is_null)
    if found is None:
        found = pa.array([False] * len(batch))
    if nobody is None:
        nobody = pa.array([True] * len(batch))
    for column, told in handles.items():
        for handle in (each for each in told if each in CONTACTS):
            form, mine = _FORMS.get(handle, str), set(values(handle))
            texts = pc.if_else(nobody, batch.column(column).cast(pa.string()), None).to_pylist()
            is_mine = [text is not None and form(text) in mine for text in texts]
            found = pc.or_(found, pa.array(is_mine, pa.bool_()))
    return found

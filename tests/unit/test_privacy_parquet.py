"""The rows of a person in a Parquet file are those that SQL would find."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from softcart_assets.privacy.parquet import Undecided, count_rows

OF_LINES = {"customer_id": {"customer inn", "customer spa"}}
MINE = {"customer inn": ["7"], "customer spa": ["8"], "email": ["anna@a.example"]}


def count(folder: Path, found_by: dict[str, set[str]], **columns: list[object]) -> int:
    path = folder / "rows.parquet"
    pq.write_table(pa.table(columns), path)
    return count_rows(fs.LocalFileSystem(), str(path), found_by, MINE.__getitem__)


def test_a_customer_of_another_line_with_the_same_number_is_somebody_else(tmp_path: Path) -> None:
    numbers: list[object] = [7, 7, 8, None, 7]
    lines: list[object] = ["inn", "spa", "spa", "inn", None]
    assert count(tmp_path, OF_LINES, customer_id=numbers, line_of_business=lines) == 2


def test_a_file_without_the_line_is_not_decided(tmp_path: Path) -> None:
    with pytest.raises(Undecided, match="customer_id has customers of several lines"):
        count(tmp_path, OF_LINES, customer_id=[7, 8])
    # Of one line only, and in a file without customers, there is nothing to decide.
    assert count(tmp_path, {"customer_id": {"customer inn"}}, customer_id=[7, 8, 7]) == 2
    assert count(tmp_path, OF_LINES, month=[7, 8]) == 0


def test_an_address_decides_only_where_nobody_is_named(tmp_path: Path) -> None:
    found_by = {"customer_id": {"customer inn"}, "email": {"email"}}
    numbers: list[object] = [7, 9, None, None]
    emails: list[object] = [None, "anna@a.example", " Anna@a.example", "bert@b.example"]
    assert count(tmp_path, found_by, customer_id=numbers, email=emails) == 2

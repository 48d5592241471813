"""Files of a folder without any server: names, records, lines that are none, and values."""

from __future__ import annotations

import csv
import gzip
import io
import os
import time
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softcart_assets.assembly import DeclarationError, assemble
from softcart_assets.connections import ServerUnreachable, SettingError
from softcart_assets.ingestion.connectors.files import folder, lines
from softcart_assets.ingestion.connectors.files.content import (
    Content,
    Text,
    Unfinished,
    Unreadable,
)
from softcart_assets.ingestion.connectors.files.folder import FilesReader
from softcart_assets.ingestion.connectors.files.lines import Lines
from softcart_assets.ingestion.connectors.files.names import Sequence, sequence_of
from softcart_assets.ingestion.connectors.files.rows import Header, Rows
from softcart_assets.ingestion.types import Batch
from softcart_assets.lines.model import NONE, Column, FileFormat, Line, Source, Table
from softcart_assets.stores import FolderConnection, open_lake, reason_without_keys, without_keys

NAMES = r"calls_(?P<sequence>\d+)(_v(?P<version>\d+))?\.csv(\.gz)?"
TYPES = {"id": "bigint", "at": "timestamptz", "amount": "numeric(12,2)", "day": "date"}
COLUMNS = tuple(Column(name, NONE) for name in ("id", "at", "amount", "day", "note"))


PLAIN = FileFormat(NAMES)


def _table(form: FileFormat | None = None, **more: Any) -> Table:
    declared = {"key": ("id",), "strategy": "incremental", "cursor": "at", "columns": COLUMNS}
    of_files = {"format": form or FileFormat(NAMES, TYPES)}
    return Table("calls", "One row per call.", **(declared | of_files | more))


def _content(data: bytes) -> Content:
    return Content(pa.BufferReader(data))


def _lines(data: bytes, form: FileFormat = PLAIN) -> Lines:
    return Lines(Text(_content(data), form.encoding), form)


def _read(data: bytes) -> bytes:
    """The text of a file."""
    text = Text(_content(data), "utf-8")
    return b"".join(iter(lambda: text.read(1000), b""))


def _records(
    data: bytes, width: int, form: FileFormat = PLAIN
) -> tuple[list[tuple[int, tuple[bytes, ...]]], list[tuple[int, str]]]:
    """The records, each with its line, and the lines that are none, with the reason."""
    found: list[tuple[int, tuple[bytes, ...]]] = []
    broken = []
    for records in _lines(data, form).records(width):
        rows = zip(*(array.to_pylist() for array in records.fields), strict=True)
        found += zip(records.lines.tolist(), rows, strict=True)
        broken += [(each.line, each.reason) for each in records.broken]
    return found, broken


def _batches(data: bytes, table: Table) -> list[Batch]:
    form = table.format
    assert form
    known = FilesReader.columns(FilesReader.__new__(FilesReader), table, [])
    text = _lines(data, form)
    rows = Rows(table, known, Header.of(text, table, known), "calls_7.csv", 42)
    return list(rows.batches(text))


# Names.


def test_a_name_says_what_a_file_replaces() -> None:
    table = _table()
    assert sequence_of(table, "calls_17.csv") == Sequence("17", 0)
    assert sequence_of(table, "calls_17_v3.csv.gz") == Sequence("17", 3)
    assert sequence_of(table, "xcalls_17.csv") is None
    assert sequence_of(table, "calls_17.csv.old") is None
    plain = _table(FileFormat(r"de/.*\.csv"))
    assert sequence_of(plain, "de/x.csv") == Sequence("de/x.csv", 0)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"format": None}, "a table of files needs a format"),
        ({"format": FileFormat("(")}, "is no regular expression"),
        ({"format": FileFormat(r"(?P<version>\d+)")}, "no group `sequence`"),
        ({"format": FileFormat(r"(?P<sequence>.)(?P<version>.*)")}, "must be a number"),
        ({"format": FileFormat("x", {"id": "money"})}, "has the type 'money'"),
        ({"format": FileFormat("x", {"id": "numeric(80,2)"})}, "has the type 'numeric"),
        ({"format": FileFormat("x", {"other": "text"})}, "a type for 'other'"),
        ({"format": FileFormat("x", separator=";;")}, "one character each"),
        ({"format": FileFormat("x", encoding="klingon")}, "no encoding 'klingon'"),
        ({"format": FileFormat("x", done="ready")}, "must have {name}"),
        ({"columns": (*COLUMNS, Column("_line", NONE))}, "'_line' is a column of the platform's"),
        ({"strategy": "snapshot"}, "strategy 'snapshot', which Files does not have"),
    ],
)
def test_a_declaration_that_cannot_work_is_refused(more: dict[str, Any], message: str) -> None:
    source = Source("s", "files", "", (_table(**more),))
    with pytest.raises(DeclarationError, match=message.replace("(", r"\(")):
        assemble([Line("x", "", "team:test", sources=(source,))])


# The folder.


def _write(path: Path, data: bytes = b"id\n1\n", at: float = 1_000_000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (at, at))


def _reader(path: Path, settle: int = 60) -> FilesReader:
    source = Source("s", "files", "", (_table(),))
    return FilesReader(source, FolderConnection("SOFTCART_S", path.as_uri(), settle))


def test_a_file_that_may_still_be_written_is_left_alone(tmp_path: Path) -> None:
    now = datetime.now(UTC).timestamp()
    _write(tmp_path / "calls_1.csv")
    _write(tmp_path / "calls_2.csv.part")
    _write(tmp_path / "calls_3.csv.tmp")
    _write(tmp_path / "calls_4.csv", at=now - 30)
    _write(tmp_path / "calls_5.csv", at=now + 3600)
    _write(tmp_path / "calls_6.csv", b"")
    _write(tmp_path / "other.txt")
    look = _reader(tmp_path).look(_table())
    assert [found.name for found in look.ready] == ["calls_1.csv"]
    reasons = {found.name: reason for found, reason in look.waiting}
    assert reasons.keys() == {
        "calls_2.csv.part", "calls_3.csv.tmp", "calls_4.csv", "calls_5.csv", "calls_6.csv",
    }  # fmt: skip
    assert "still written" in reasons["calls_2.csv.part"]
    assert "changed at" in reasons["calls_4.csv"]
    assert reasons["calls_6.csv"] == "it is empty"
    assert len(_reader(tmp_path, settle=10).look(_table()).ready) == 2


def test_a_declared_marker_says_that_a_file_is_complete(tmp_path: Path) -> None:
    table = _table(FileFormat(rf"in/{NAMES}", done="{name}.done"))
    now = datetime.now(UTC).timestamp()
    _write(tmp_path / "in" / "calls_1.csv", at=now)
    look = _reader(tmp_path).look(table)
    assert [(f.name, why) for f, why in look.waiting] == [
        ("in/calls_1.csv", "there is no in/calls_1.csv.done, which says that it is complete")
    ]
    _write(tmp_path / "in" / "calls_1.csv.done", b"", at=now)
    assert [found.name for found in _reader(tmp_path).look(table).ready] == ["in/calls_1.csv"]


def test_the_position_changes_with_the_complete_files_only(tmp_path: Path) -> None:
    table = _table()
    empty = _reader(tmp_path).position(table)
    _write(tmp_path / "calls_1.csv")
    one = _reader(tmp_path).position(table)
    assert one.startswith("1 files|1970-01-12T13:46:40+00:00|")
    _write(tmp_path / "calls_2.csv.tmp")
    assert _reader(tmp_path).position(table) == one != empty
    (tmp_path / "calls_2.csv.tmp").rename(tmp_path / "calls_2.csv")
    assert _reader(tmp_path).position(table) != one


def test_a_file_that_grows_while_it_is_read_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "calls_1.csv"
    _write(path)
    reader = _reader(tmp_path)
    [found] = reader.look(_table()).ready
    with reader.content(found) as content:
        content.drain()

    def read_while_it_grows() -> None:
        with reader.content(found) as content, path.open("ab") as file:
            content.read(2)
            file.write(b"2\n")

    with pytest.raises(Unfinished, match="changed while it was read"):
        read_while_it_grows()
    path.unlink()
    with pytest.raises(folder.Vanished), reader.content(found):
        pass


def test_a_folder_that_is_not_there_is_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(ServerUnreachable, match=r"there is no such folder\. Check SOFTCART_S_URI"):
        _reader(tmp_path / "gone")


@pytest.mark.parametrize(
    "uri",
    [
        "s4://key:hush@host/x?secret=hush",
        "s3://key:a/hush@host/x",
        "s3a://key:hush@ho st/x",
        "s3://key:a?b=hush@host/x",
        "s3://host/x?allow_bucket_creation=a@hush",
        "s3://host/x?allow_bucket_creation=hush",
    ],
)
def test_no_error_shows_a_key(uri: str) -> None:
    with pytest.raises(ServerUnreachable, match=r"host|s3://…|st/x") as error:
        FolderConnection("SOFTCART_S", uri, 1).open()
    assert "hush" not in str(error.value)
    refused = (ServerUnreachable, SettingError)
    with pytest.raises(refused, match="Check SOFTCART_LAKE_URI") as failed:
        open_lake(uri)
    assert "hush" not in str(failed.value)


def test_a_key_that_was_taken_for_a_path_is_not_shown() -> None:
    uri = "s3://key:1/hush@host/x"
    error = OSError("When getting information for key 'hush@host/x' in bucket 'key': refused")
    assert without_keys(uri) == "s3://…@host/x"
    assert reason_without_keys(uri, error).startswith(
        "When getting information for key. In a key, write characters such as /"
    )
    local = "file:///srv/a@b"
    assert without_keys(local) == local
    assert reason_without_keys(local, OSError("'/srv/a@b': refused")) == "'/srv/a@b': refused"


# Content.


def test_a_gzip_file_is_known_by_its_content_and_must_end() -> None:
    data = b"id,at\n" + b"1,2\n" * 50_000
    packed = gzip.compress(data[:100_000]) + gzip.compress(data[100_000:])
    assert _read(packed) == data
    for end in (2, 3, 10, len(packed) // 2, len(packed) - 1):
        with pytest.raises(Unfinished, match="do not end"):
            _read(packed[:end])
    damaged = bytearray(packed)
    damaged[len(packed) // 3] ^= 0xFF
    with pytest.raises(Unreadable, match="damaged"):
        _read(bytes(damaged))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings_and_byte_order_marks(encoding: str) -> None:
    form = FileFormat(NAMES, TYPES, encoding=encoding)
    data = 'id,note\r\n1,"Zoë €"\r\n2,ß\r\n'.encode(encoding)
    [batch] = _batches(data, _table(form, cursor="id"))
    assert batch.rows.column("note").to_pylist() == ["Zoë €", "ß"]
    assert batch.rows.column("_line").to_pylist() == [2, 3]
    marked = "\ufeff".encode() + b'"id",note\n1,x\n'
    if encoding == "utf-8":
        [batch] = _batches(marked, _table(form, cursor="id"))
        assert batch.rows.column("id").to_pylist() == [1]


# Records.

_VALUES = st.text(st.sampled_from('ab,"\n\r; é'), max_size=6)


@given(st.lists(st.lists(_VALUES, min_size=2, max_size=2), max_size=20), st.booleans())
def test_what_was_written_as_csv_is_read_as_it_was(rows: list[list[str]], is_crlf: bool) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n" if is_crlf else "\n", quoting=csv.QUOTE_ALL)
    # Within quotes, Python's reader keeps a line break as it is.
    writer.writerows(rows)
    found, broken = _records(out.getvalue().encode(), 2)
    assert not broken
    assert [tuple(v.decode() for v in row) for _, row in found] == [tuple(row) for row in rows]


@given(
    st.lists(st.sampled_from([b"1,x", b'2,"y z"', b"", b"3", b'4,"', b'5,"a"b', b"6,\xff,7"])),
    st.integers(1, 40),
)
def test_each_line_is_a_record_or_told(texts: list[bytes], block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_BLOCK_BYTES", block)
        found, broken = _records(b"\n".join([*texts, b"9,end"]), 2)
    good = {b"1,x": (b"1", b"x"), b'2,"y z"': (b"2", b"y z"), b"9,end": (b"9", b"end")}
    expected = [(n, good[t]) for n, t in enumerate([*texts, b"9,end"], start=1) if t in good]
    bad = [n for n, t in enumerate(texts, start=1) if t and t not in good]
    # A quote that is never closed may meet another one, lines later. What it takes along is told
    # with the line where it begins, or is a record with line breaks in it.
    if not any(t in (b'4,"', b'2,"y z"', b'5,"a"b') for t in texts):
        assert found == expected
        assert [line for line, _ in broken] == bad
    told = {line for line, _ in found} | {line for line, _ in broken}
    spans = {line + n for line, row in found for n in range(b"".join(row).count(b"\n") + 1)}
    assert {n for n, t in enumerate(texts, start=1) if t} <= told | spans


def test_a_forgotten_quote_takes_no_other_line_along() -> None:
    many = b"".join(b"%d,x\n" % n for n in range(300))
    found, broken = _records(b'1,"open\n' + many, 2)
    assert len(found) == 300
    assert broken == [(1, "a quoted field does not end")]
    found, broken = _records(b'1,"open\n2,b\n3,"c"\n4,d\n', 2)
    assert [line for line, _ in found] == [2, 3, 4]
    assert [line for line, _ in broken] == [1]


@pytest.mark.parametrize(
    "line", [b'1,"x"y\n', b'1,"x\ny"\n', b'1,"x\n'], ids=["broken", "two", "open"]
)
def test_work_follows_the_number_of_lines_whatever_is_in_them(line: bytes) -> None:
    # A block with one such line is read record by record. A full block took hours.
    data = line * ((512 << 10) // len(line))
    began = time.process_time()
    found, broken = _records(data, 2)
    assert time.process_time() - began < 5
    assert len(found) + len(broken) == data.count(line)


def test_a_record_may_have_line_breaks_and_go_on_in_the_next_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lines, "_BLOCK_BYTES", 7)
    found, broken = _records(b'1,"a\nb\r\nc"\r\n2,d\n\n3,"e""f"', 2)
    assert found == [(1, (b"1", b"a\nb\r\nc")), (4, (b"2", b"d")), (6, (b"3", b'e"f'))]
    assert not broken


def test_lines_without_quotes_are_cut_fast_and_alike() -> None:
    data = b"1,a\r\n2,b\n3\n\n4,d,e\n5,f\rg\n6,g"
    found, broken = _records(data, 2, FileFormat(NAMES, quote=""))
    assert [line for line, _ in found] == [1, 2, 7]
    assert [line for line, _ in broken] == [3, 5, 6]
    assert broken[0][1] == "1 fields instead of 2"
    assert _records(b"a\n\nb\n", 1)[0] == [(1, (b"a",)), (3, (b"b",))]


# Headers and values.


def test_values_are_exact_and_what_is_not_is_told_by_line_and_column() -> None:
    data = (
        b"id,at,amount,day,note\n"
        b"1,2026-03-29T01:30:00.123456+01:00,10.10,2026-03-29,\n"
        b"2,2026-03-29 00:30:00,-0.05,,x\n"
        b"3,2026-03-29 00:30:00Z,1.005,2026-02-30,y\n"
        b",2026-03-29,1,,z\n"
        b"5,2026-03-29 00:30:00+1,1,,z\n"
        b"6,2026-03-29 00:30:00.1234567,1,,z\n"
        b"7,2026-03-29 00:30:00,1,,\xff\n"
        b"8,2026-03-29 00:30:00\n"
        b"9,2026-13-29 00:30:00+01:00,1,,\n"
    )
    [batch] = _batches(data, _table())
    moment = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
    assert batch.rows.to_pylist() == [
        {
            "_file": 42, "_line": 2, "id": 1, "at": moment.replace(microsecond=123456),
            "amount": Decimal("10.10"), "day": date(2026, 3, 29), "note": None,
        },
        {
            "_file": 42, "_line": 3, "id": 2, "at": moment, "amount": Decimal("-0.05"),
            "day": None, "note": "x",
        },
    ]  # fmt: skip
    rejected = {each.row["_line"] or "": each for each in batch.rejected}
    assert sorted(rejected) == ["10", "4", "5", "6", "7", "8", "9"]
    assert "amount: value out of range" in rejected["4"].reason
    assert "day: zero, partial or impossible date" in rejected["4"].reason
    assert rejected["5"].reason.endswith("line 5: no value, and it is a part of the key")
    assert rejected["9"].reason == "calls_7.csv, line 9: 2 fields instead of 5"
    assert rejected["9"].row["line"] == "8,2026-03-29 00:30:00"
    assert rejected["8"].row["note"] == "\\xff"
    assert all(each.row["file"] == "calls_7.csv" for each in batch.rejected)


@pytest.mark.parametrize(
    ("contract", "header", "outcome"),
    [
        ("evolve", "id,at,amount,day,note,more", ["more"]),
        ("evolve", "id,at,amount,day", []),
        ("evolve", "at,amount,day,note", "no column 'id'"),
        ("evolve", "id,at,id", "column 'id' twice"),
        ("evolve", "id,at,", "has no name"),
        ("freeze", "id,at,amount,day,note,more", "contract is 'freeze'"),
        ("freeze", "id,at,amount,day", "no column 'note'"),
        ("freeze", "note,day,amount,at,id", []),
        ("quarantine", "id,at,amount,day,note,more", ["more"]),
        ("evolve", "", "no header"),
    ],
)
def test_a_header_with_other_columns_follows_the_contract(
    contract: str, header: str, outcome: list[str] | str
) -> None:
    table = _table(contract=contract)
    columns = FilesReader.columns(FilesReader.__new__(FilesReader), table, [])
    text = _lines(f"{header}\n".encode())
    if isinstance(outcome, str):
        with pytest.raises(Unreadable, match=outcome):
            Header.of(text, table, columns)
    else:
        assert Header.of(text, table, columns).added == outcome


def test_values_of_a_column_that_raw_does_not_get_go_to_quarantine() -> None:
    data = b"id,at,more\n1,2026-01-01,\n2,2026-01-01,x\n"
    [batch] = _batches(data, _table(contract="quarantine"))
    assert batch.rows.column("id").to_pylist() == [1]
    [rejected] = batch.rejected
    assert rejected.column == "more"
    assert rejected.row["more"] == "x"


def test_a_file_without_a_header_has_the_declared_columns() -> None:
    form = FileFormat(NAMES, TYPES, separator="|", header=False, nulls=("", "NULL"))
    [batch] = _batches(b"1|2026-01-01|NULL||x\n", _table(form))
    [row] = batch.rows.to_pylist()
    assert (row["id"], row["amount"], row["note"], row["_line"]) == (1, None, "x", 1)

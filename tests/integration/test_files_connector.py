"""Files that arrive late, twice, corrected and broken: raw is what all of them say together."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import multiprocessing
import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow.dataset as ds
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from softcart_assets.audits import raw
from softcart_assets.cli.stack import status
from softcart_assets.connections import PostgresConnection, ServerUnreachable
from softcart_assets.ingestion.connectors import connector
from softcart_assets.ingestion.connectors.files import lines
from softcart_assets.ingestion.connectors.files import load as files_load
from softcart_assets.ingestion.connectors.files.folder import FilesReader, Found
from softcart_assets.ingestion.engine import table as engine
from softcart_assets.ingestion.errors import NotComparable
from softcart_assets.ingestion.load import (
    LoadRequest,
    LoadResult,
    changed_tables,
    loaded_positions,
    replay,
)
from softcart_assets.ingestion.proof.reconcile import reconcile
from softcart_assets.ingestion.proof.verify import compare
from softcart_assets.ingestion.quarantine import entries_with, list_quarantine
from softcart_assets.ingestion.sinks.ods.rebuild import check as total_check
from softcart_assets.lines.model import (
    NONE,
    PII,
    Column,
    FileFormat,
    RunningTotal,
    Source,
    Table,
)
from softcart_assets.stores import FolderConnection
from tests.support.ingestion import load_all, query
from tests.support.object_store import object_store

NAMES = r"calls_(?P<sequence>\d+)(_v(?P<version>\d+))?(_again)?\.csv(\.gz)?"
CALLS = Table(
    "calls",
    "One row per call.",
    ("operator", "record_id"),
    "incremental",
    tuple(
        Column(name, PII if name == "msisdn" else NONE)
        for name in ("operator", "record_id", "msisdn", "started_at", "quantity", "amount")
    ),
    cursor="started_at",
    lake_partition="started_at",
    history=True,
    format=FileFormat(
        NAMES,
        {
            "record_id": "bigint",
            "started_at": "timestamptz",
            "quantity": "integer",
            "amount": "numeric(12,4)",
        },
    ),
)
SOURCE = Source("t", "files", "", (CALLS,), owner="team:test", prefix="SOFTCART_T")
AMOUNTS = RunningTotal(
    "amounts",
    "What calls cost.",
    table="calls",
    key="operator",
    measures={"calls": "*", "amount": "amount"},
    at="started_at",
    # Several records are of one event.
    identity=("started_at",),
    windows=("life", "day"),
)
COUNTED = replace(SOURCE, totals=(AMOUNTS,))
HEADER = "operator,record_id,msisdn,started_at,quantity,amount"
AT = "2026-01-01T00:00:00Z"


def _call(record: int, *, amount: str = "1.5000", at: str = AT, operator: str = "A1") -> str:
    return f"{operator},{record},4917,{at},60,{amount}"


@dataclass
class Folder:
    """A folder with files, and the warehouse that they are loaded into."""

    path: Path
    postgres: PostgresConnection
    lake: str
    source: Source = SOURCE
    _clock: Iterator[int] = field(default_factory=lambda: itertools.count(1_700_000_000))

    uri: str = ""

    @property
    def connection(self) -> FolderConnection:
        return FolderConnection("SOFTCART_T", self.uri or self.path.as_uri(), 60)

    def put(self, name: str, *records: str, header: str = HEADER, at: int | None = None) -> Path:
        """Write a file, a second after the last one."""
        text = "".join(f"{line}\n" for line in (header, *records)).encode()
        path = self.path / name
        path.write_bytes(gzip.compress(text, mtime=0) if name.endswith(".gz") else text)
        moment = at or next(self._clock)
        os.utime(path, (moment, moment))
        return path

    def load(self, **options: object) -> LoadResult:
        return load_all(self.source, self.connection, self.postgres, self.lake, **options)["calls"]  # type: ignore[arg-type]

    def rows(self, columns: str = "record_id, amount::text") -> list[tuple]:
        return query(
            self.postgres, f"SELECT {columns} FROM raw_t.calls WHERE NOT _deleted ORDER BY 1, 2"
        )

    def files(self) -> dict[str, str]:
        return dict(query(self.postgres, "SELECT name, state FROM ingestion.files ORDER BY name"))

    def is_changed(self) -> bool:
        since = loaded_positions(self.postgres, self.source)
        return bool(changed_tables(self.source, self.connection, since).tables)

    def check(self) -> None:
        """Every record is in raw, a duplicate or in quarantine, and the checksums say the same."""
        found = compare(self.source, self.postgres, "calls")
        assert found.is_equal, str(found)
        assert not found.unstated
        [(records, quarantined, rows, duplicates)] = query(
            self.postgres,
            "SELECT coalesce(sum(record_count), 0), coalesce(sum(quarantined_count), 0),"
            " (SELECT count(*) FROM raw_t.calls WHERE NOT _deleted),"
            " (SELECT count(*) FROM ingestion.file_duplicates)"
            " FROM ingestion.files WHERE record_count IS NOT NULL AND number IN"
            " (SELECT number FROM ingestion.files WHERE state IN ('loaded', 'repeated'))",
        )
        assert records == quarantined + rows + duplicates
        [(open_entries,)] = query(
            self.postgres, "SELECT count(*) FROM ingestion.quarantine WHERE closed_at IS NULL"
            " AND column_name <> 'file'",
        )  # fmt: skip
        assert open_entries == quarantined


@pytest.fixture
def folder(tmp_path: Path, postgres: PostgresConnection, lake: str) -> Folder:
    path = tmp_path / "in"
    path.mkdir()
    return Folder(path, postgres, lake)


def test_files_are_loaded_once_with_exact_values(folder: Folder) -> None:
    folder.put("calls_1.csv", _call(1), _call(2, amount="-0.0001", at="2026-01-01T02:00:00+02:00"))
    folder.put("calls_2.csv.gz", _call(3))
    assert changed_tables(SOURCE, folder.connection, {}).tables.keys() == {"calls"}
    result = folder.load()
    assert (result.inserted, result.updated, result.deleted) == (3, 0, 0)
    assert result.strategy == "incremental"
    assert folder.rows("record_id, amount::text, started_at::text, _line") == [
        (1, "1.5000", "2026-01-01 00:00:00+00", 2),
        (2, "-0.0001", "2026-01-01 00:00:00+00", 3),
        (3, "1.5000", "2026-01-01 00:00:00+00", 2),
    ]
    assert folder.files() == {"calls_1.csv": "loaded", "calls_2.csv.gz": "loaded"}
    folder.check()
    assert not folder.is_changed()
    again = folder.load()
    assert not again.is_changed
    assert again.rows_read == 0
    # One more file: only that is read.
    folder.put("calls_3.csv", _call(4))
    assert folder.is_changed()
    assert folder.load().rows_read == 1
    # Archived: nothing changes.
    (folder.path / "calls_1.csv").unlink()
    assert not folder.load().is_changed
    assert len(folder.rows()) == 4
    folder.check()
    root = Path(folder.lake.removeprefix("file://"))
    listed = query(folder.postgres, "SELECT path FROM ingestion.lake_files")
    assert ds.dataset([str(root / path) for (path,) in listed]).count_rows() == 4


def test_a_content_counts_once_whatever_its_name(folder: Folder) -> None:
    folder.put("calls_1.csv", _call(1), _call(2))
    folder.load()
    folder.put("calls_7.csv", _call(1), _call(2))
    result = folder.load()
    assert not result.is_changed
    assert folder.files() == {"calls_1.csv": "loaded", "calls_7.csv": "repeated"}
    folder.check()
    # It counts as long as one of its names does.
    folder.put("calls_1_v1.csv", _call(9))
    folder.load()
    assert [record for record, _ in folder.rows()] == [1, 2, 9]
    folder.put("calls_7_v1.csv", _call(8))
    folder.load()
    assert [record for record, _ in folder.rows()] == [8, 9]
    folder.check()
    # An old version with the same content does not keep another file from counting.
    folder.put("calls_8_v1.csv", _call(80))
    folder.put("calls_8.csv", _call(81))
    folder.put("calls_0.csv", _call(81))
    folder.load()
    assert [record for record, _ in folder.rows()] == [8, 9, 80, 81]
    # And counts again when it comes again under a third name.
    folder.put("calls_3.csv", _call(1), _call(2))
    folder.load()
    assert [record for record, _ in folder.rows()] == [1, 2, 8, 9, 80, 81]
    folder.check()


def test_a_record_counts_once_by_its_key(folder: Folder) -> None:
    folder.put("calls_1.csv", _call(1), _call(1), _call(2))
    folder.put("calls_2.csv", _call(2), _call(3), _call(3, operator="B2"))
    result = folder.load()
    assert result.inserted == 4
    assert not result.warnings
    folder.check()
    # The later state of a record counts, whatever comes first.
    folder.put("calls_3.csv", _call(2, amount="7", at="2026-01-02T00:00:00Z"))
    folder.put("calls_4.csv", _call(2, amount="8", at="2025-12-31T00:00:00Z"))
    assert folder.load().updated == 1
    assert (2, "7.0000") in folder.rows()
    folder.check()
    # Without a later time, nothing tells. It is said, and always the same one counts.
    folder.put("calls_5.csv", _call(3, amount="9"))
    [warning] = folder.load().warnings
    assert "1 records share key and started_at with another one and have other values" in warning
    folder.check()


def test_a_corrected_file_replaces_the_rows_of_the_old_one(folder: Folder) -> None:
    folder.put("calls_1.csv", _call(1), _call(2), _call(3))
    folder.put("calls_2.csv", _call(3), _call(4))
    folder.load()
    folder.put("calls_1_v2.csv.gz", _call(1), _call(2, amount="2"))
    result = folder.load()
    # The third record is in another file as well, and takes its place from there.
    assert result.deleted == 0
    assert folder.rows() == [(1, "1.5000"), (2, "2.0000"), (3, "1.5000"), (4, "1.5000")]
    folder.put("calls_2_v1.csv", _call(4))
    assert folder.load().deleted == 1
    assert [record for record, _ in folder.rows()] == [1, 2, 4]
    # A version between them comes late, and changes nothing.
    folder.put("calls_1_v1.csv", _call(1, amount="99"), _call(77))
    assert not folder.load().is_changed
    assert folder.files() == {
        "calls_1.csv": "replaced", "calls_1_v1.csv": "replaced", "calls_1_v2.csv.gz": "loaded",
        "calls_2.csv": "replaced", "calls_2_v1.csv": "loaded",
    }  # fmt: skip
    # No rows: everything of the sequence goes.
    folder.put("calls_1_v3.csv")
    assert folder.load().deleted == 2
    assert [record for record, _ in folder.rows()] == [4]
    folder.check()
    history = query(
        folder.postgres, "SELECT record_id FROM raw_t.calls_history WHERE _deleted ORDER BY 1"
    )
    assert history == [(1,), (2,), (3,)]


def test_records_that_come_weeks_late_are_added_and_change_nothing_else(folder: Folder) -> None:
    """The cursor of what is there is no high-water mark for files."""
    folder.put("calls_9.csv", _call(1, at="2026-03-20T00:00:00Z"))
    folder.load()
    late = [_call(2, at="2026-03-19T22:00:00Z"), _call(3, at="2026-01-31T23:59:59Z")]
    folder.put("calls_2.csv.gz", *late)
    result = folder.load()
    assert (result.inserted, result.updated, result.deleted) == (2, 0, 0)
    assert [record for record, _ in folder.rows()] == [1, 2, 3]
    # A late file may hold the older state of a record.
    folder.put("calls_1.csv", _call(1, at="2026-01-01T00:00:00Z", amount="9"))
    assert not folder.load().is_changed
    folder.check()


def test_a_bucket_is_read_like_a_folder(folder: Folder) -> None:
    with object_store(folder.path.parent) as uri:
        folder.uri = uri.format("in")
        folder.put("calls_1.csv.gz", _call(1), _call(2), "broken")
        folder.put("calls_2.csv", _call(2), _call(3))
        fresh = folder.put("calls_3.csv", _call(4))
        os.utime(fresh)
        assert folder.is_changed()
        result = folder.load()
        assert (result.inserted, result.quarantined) == (3, 1)
        assert "calls_3.csv (it was changed at" in result.warnings[0]
        [entry] = list_quarantine(folder.postgres)
        assert entry.reason == "calls_1.csv.gz, line 4: 1 fields instead of 6"
        folder.check()
        assert not folder.is_changed()
        folder.put("calls_1_v2.csv.gz", _call(1, amount="2"))
        result = folder.load()
        # The second record is in another file, too.
        assert (result.updated, result.deleted) == (1, 0)
        assert folder.rows() == [(1, "2.0000"), (2, "1.5000"), (3, "1.5000")]
        assert not list_quarantine(folder.postgres)
        folder.check()
        # A folder that is not there is no empty one.
        folder.uri = uri.format("gone")
        with pytest.raises(ServerUnreachable, match="no such folder"):
            folder.load()
        assert len(folder.rows()) == 3


def test_a_file_that_is_written_anew_under_its_name_replaces_itself(folder: Folder) -> None:
    folder.put("calls_1.csv", _call(1), _call(2))
    folder.load()
    folder.put("calls_1.csv", _call(2), _call(3))
    folder.load()
    assert [record for record, _ in folder.rows()] == [2, 3]
    folder.put("calls_1.csv", _call(1), _call(2))  # and back
    folder.load()
    assert [record for record, _ in folder.rows()] == [1, 2]
    folder.check()


def test_a_file_that_is_not_complete_is_left_alone(folder: Folder) -> None:
    whole = folder.put("calls_1.csv.gz", *(_call(n) for n in range(500)))
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) // 2])
    os.utime(whole, (1_600_000_000, 1_600_000_000))
    folder.put("calls_2.csv", _call(1000))
    folder.put("calls_3.csv.part", _call(2000))
    fresh = folder.put("calls_4.csv", _call(3000))
    os.utime(fresh)
    result = folder.load()
    assert [record for record, _ in folder.rows()] == [1000]
    [warning] = result.warnings
    assert "calls_1.csv.gz (its gzip data do not end)" in warning
    assert "calls_3.csv.part (its name is that of a file that is still written)" in warning
    assert "calls_4.csv (it was changed at" in warning
    assert folder.files() == {
        "calls_1.csv.gz": "waiting", "calls_2.csv": "loaded", "calls_3.csv.part": "waiting",
        "calls_4.csv": "waiting",
    }  # fmt: skip
    assert not folder.is_changed()
    folder.check()
    whole.write_bytes(data)
    os.utime(whole, (1_600_000_001, 1_600_000_001))
    assert folder.is_changed()
    folder.load()
    assert len(folder.rows()) == 501
    (folder.path / "calls_3.csv.part").rename(folder.path / "calls_3.csv")
    os.utime(fresh, (1_600_000_002, 1_600_000_002))
    folder.load()
    assert set(folder.files().values()) == {"loaded"}
    folder.check()


def test_a_file_that_grows_while_it_is_read_is_taken_back(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder.put("calls_1.csv", _call(1), "no record")
    folder.put("calls_2.csv", _call(2))
    before = files_load.FilesLoad._stage

    def stage(self: files_load.FilesLoad, found: object, *more: object) -> object:
        facts = before(self, found, *more)  # type: ignore[arg-type]
        if found.name == path.name:  # type: ignore[attr-defined]
            with path.open("ab") as file:
                file.write(f"{_call(3)}\n".encode())
        return facts

    with monkeypatch.context() as patch:
        patch.setattr(files_load.FilesLoad, "_stage", stage)
        result = folder.load()
    assert [record for record, _ in folder.rows()] == [2]
    assert "calls_1.csv (it changed while it was read)" in result.warnings[0]
    assert result.quarantined == 0
    assert result.rows_read == 1
    folder.check()
    os.utime(path, (1_600_000_000, 1_600_000_000))
    assert folder.load().quarantined == 1
    assert [record for record, _ in folder.rows()] == [1, 2, 3]
    folder.check()


def test_a_broken_line_is_in_quarantine_until_it_is_mended(folder: Folder) -> None:
    folder.put("calls_1.csv", _call(1), "A1,2", 'A1,"3', _call(4).replace("60", "x"), _call(5))
    result = folder.load()
    assert (result.inserted, result.quarantined) == (2, 3)
    entries = sorted(list_quarantine(folder.postgres), key=lambda each: each.reason)
    assert [(each.column_name, each.reason) for each in entries] == [
        ("line", "calls_1.csv, line 3: 2 fields instead of 6"),
        ("line", "calls_1.csv, line 4: a quoted field does not end"),
        ("quantity", "calls_1.csv, line 5: value out of range for integer"),
    ]
    assert entries[0].row["line"] == "A1,2"
    assert entries[2].row["record_id"] == "4"
    assert not raw.quarantine_small(folder.postgres, SOURCE, CALLS).passed
    folder.check()
    [broken] = entries_with(folder.postgres, "t", "operator", 'A1,"3')
    assert broken.reason == entries[1].reason
    found = entries_with(folder.postgres, "t", "operator", "A1", "calls")
    assert {each.reason for each in found} == {each.reason for each in entries}
    assert not entries_with(folder.postgres, "t", "operator", "A17")
    # Mended in the file: those lines leave, the others stay.
    folder.put("calls_1.csv", _call(1), _call(2), 'A1,"3', _call(4), _call(5))
    released = [each.id for each in entries]
    [result] = replay(
        LoadRequest(SOURCE, folder.connection, folder.postgres, folder.lake, released=released)
    )
    assert result.quarantined == 1
    assert [record for record, _ in folder.rows()] == [1, 2, 4, 5]
    closed = list_quarantine(folder.postgres, closed=True)
    assert {each.closed_because for each in closed} == {"replayed"}
    folder.check()


def test_a_mended_declaration_reads_the_file_again(folder: Folder) -> None:
    folder.put("calls_1.csv", _call(1), _call(2, amount="1.23456"))
    folder.put("calls_2.csv", _call(3))
    folder.load()
    [entry] = list_quarantine(folder.postgres)
    assert CALLS.format
    types = dict(CALLS.format.types) | {"amount": "numeric(14,6)"}
    wider = replace(CALLS, format=replace(CALLS.format, types=types))
    folder.source = replace(SOURCE, tables=(wider,))
    request = LoadRequest(
        folder.source, folder.connection, folder.postgres, folder.lake, released=[entry.id]
    )
    [result] = replay(request)
    assert (result.inserted, result.updated, result.quarantined) == (1, 0, 0)
    assert result.rows_read == 2  # of that file only
    assert (2, "1.234560") in folder.rows()
    # Files of before state the column by another type, so it is left out until they are read again.
    assert compare(folder.source, folder.postgres, "calls").unstated == ["amount"]
    folder.load(full=True)
    assert compare(folder.source, folder.postgres, "calls").unstated == []
    folder.check()
    (folder.path / "calls_2.csv").unlink()
    [warning] = folder.load(full=True).warnings
    assert "calls_2.csv: to be read again, but not in the folder any more" in warning
    assert len(folder.rows()) == 3


def test_a_file_that_cannot_be_read_holds_no_other_back(folder: Folder) -> None:
    data = gzip.compress(f"{HEADER}\n{_call(1)}\n".encode() * 100)
    path = folder.path / "calls_1.csv.gz"
    path.write_bytes(data[:-8] + bytes(8))  # without its checksum
    os.utime(path, (1_600_000_000, 1_600_000_000))
    folder.put("calls_2.csv", "1,2", header="operator,started_at")
    folder.put("calls_3.csv", _call(3))
    result = folder.load()
    assert [record for record, _ in folder.rows()] == [3]
    assert folder.files() == {
        "calls_1.csv.gz": "broken", "calls_2.csv": "broken", "calls_3.csv": "loaded",
    }  # fmt: skip
    assert "cannot be read: calls_2.csv, calls_1.csv.gz" in result.warnings[0]
    reasons = {each.reason for each in list_quarantine(folder.postgres)}
    assert (
        "calls_2.csv: line 1: the header has no column 'record_id'. Nothing of the file was loaded"
    ) in reasons
    assert not folder.load().is_changed
    folder.check()
    folder.put("calls_2.csv", _call(2))
    assert folder.load().quarantined == 1
    assert [record for record, _ in folder.rows()] == [2, 3]
    [closed] = list_quarantine(folder.postgres, closed=True)
    assert closed.closed_because == "mended"


def test_columns_come_and_go_as_the_contract_says(folder: Folder) -> None:
    folder.put("calls_1.csv", _call(1))
    folder.load()
    folder.put("calls_2.csv", f"{_call(2)},DE", header=f"{HEADER},country")
    folder.put("calls_3.csv", "A1,3,4917,2026-01-01,5", header=HEADER.removesuffix(",amount"))
    result = folder.load()
    assert folder.rows("record_id, country, amount::text") == [
        (1, None, "1.5000"), (2, "DE", "1.5000"), (3, None, None),
    ]  # fmt: skip
    assert "calls_3.csv: its header has no column amount: taken as NULL" in result.warnings
    assert any("column 'country' is not classified" in each for each in result.warnings)
    folder.check()
    folder.source = replace(SOURCE, tables=(replace(CALLS, contract="freeze"),))
    folder.put("calls_4.csv", f"{_call(4)},x", header=f"{HEADER},other")
    folder.load()
    assert folder.files()["calls_4.csv"] == "broken"
    folder.source = replace(SOURCE, tables=(replace(CALLS, contract="quarantine"),))
    folder.put("calls_5.csv", f"{_call(5)},x", f"{_call(6)},", header=f"{HEADER},other")
    assert folder.load().quarantined == 2
    assert [record for record, _ in folder.rows()] == [1, 2, 3, 6]
    folder.check()


def test_what_is_lost_or_changed_in_raw_is_seen(folder: Folder) -> None:
    folder.put("calls_1.csv", *(_call(n) for n in range(20)))
    folder.load()
    assert raw.equals_source(folder.postgres, SOURCE, CALLS).passed
    with folder.postgres.connect() as session:
        session.execute("DELETE FROM raw_t.calls WHERE record_id = 7")
    assert not raw.equals_source(folder.postgres, SOURCE, CALLS).passed
    folder.load()
    assert not raw.equals_source(folder.postgres, SOURCE, CALLS).passed
    folder.load(full=True)
    assert raw.equals_source(folder.postgres, SOURCE, CALLS).passed
    with folder.postgres.connect() as session:
        session.execute("DROP TABLE raw_t.calls, raw_t.calls_history")
    folder.load()
    assert len(folder.rows()) == 20
    folder.check()
    assert not connector("files").is_comparable
    with pytest.raises(NotComparable, match="equals_source"):
        reconcile(LoadRequest(SOURCE, folder.connection, folder.postgres, folder.lake), "calls")


def test_status_tells_which_files_were_loaded_and_which_not(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = connector("files")
    assert kind.state(SOURCE, folder.postgres) == []
    folder.put("calls_1.csv", _call(1), _call(2))
    folder.put("calls_2.csv", _call(2), _call(3))
    folder.put("calls_2_v1.csv", _call(2))
    folder.put("calls_3.csv.part", "")
    folder.put("calls_4.csv", "", header="x")
    folder.load()
    first, *others = kind.state(SOURCE, folder.postgres)
    assert first == (
        "t.calls: files: 1 broken, 2 loaded, 1 replaced, 1 waiting; "
        "1 records do not count, as another has their key"
    )
    assert sorted(others) == [
        "  t.calls, broken: calls_4.csv: line 1: the header has no column 'operator', 'record_id', "
        "'started_at'",
        "  t.calls, waiting: calls_3.csv.part: its name is that of a file that is still written",
    ]
    status()  # of the declared sources, whatever they are
    assert "Home:" in capsys.readouterr().out


# Any order of arrival.


@dataclass(frozen=True)
class Arrival:
    """A file that arrives: its place in a sequence, its version, and its content by number."""

    sequence: int
    version: int
    content: int
    is_copy: bool

    @property
    def name(self) -> str:
        end = f"_v{self.version}" if self.version else ""
        return f"calls_{self.sequence}{end}{'_again' if self.is_copy else ''}.csv"


_RECORDS = st.lists(
    st.one_of(
        st.builds(
            _call,
            st.integers(1, 6),
            amount=st.sampled_from(["1", "2", "3"]),
            at=st.sampled_from(["2026-01-01", "2026-01-02", ""]),
        ),
        st.sampled_from(["broken", "A1,,4917,2026-01-01,1,1", "A1,1,4917,2026-01-01,1,x"]),
    ),
    max_size=5,
)
_ARRIVALS = st.lists(
    st.builds(Arrival, st.integers(1, 3), st.integers(0, 2), st.integers(0, 5), st.booleans()),
    min_size=1,
    max_size=9,
    unique_by=lambda each: each.name,
)


def _expected(contents: list[list[str]], arrived: dict[str, tuple[Arrival, int]]) -> set[tuple]:
    """What raw has to have, from the set of files alone."""

    def hash_of(arrival: Arrival) -> str:
        lines_ = (HEADER, *contents[arrival.content])
        return hashlib.sha256("".join(f"{each}\n" for each in lines_).encode()).hexdigest()

    in_force = set()
    for sequence in {each.sequence for each, _ in arrived.values()}:
        last = max(
            (each.version, moment, hash_of(each), each.content)
            for each, moment in arrived.values()
            if each.sequence == sequence
        )
        in_force.add((last[2], last[3]))
    best: dict[str, list[tuple]] = {}
    for digest, content in in_force:
        for line, record in enumerate(contents[content]):
            fields = record.split(",")
            if len(fields) != 6 or not fields[1] or fields[5] == "x":
                continue
            order = (fields[3] != "", fields[3], digest, line)
            best.setdefault(fields[1], []).append((order, fields[1], fields[3], fields[5]))
    return {max(each)[1:] for each in best.values()}


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    contents=st.lists(_RECORDS, min_size=6, max_size=6),
    arrivals=_ARRIVALS,
    dice=st.randoms(use_true_random=False),
)
def test_any_order_of_arrival_gives_the_same_rows(
    postgres: PostgresConnection,
    tmp_path_factory: pytest.TempPathFactory,
    contents: list[list[str]],
    arrivals: list[Arrival],
    dice: random.Random,
) -> None:
    path = tmp_path_factory.mktemp("in")
    with postgres.connect() as session:
        session.execute("DROP SCHEMA IF EXISTS raw_t, ingestion, ods CASCADE")
    folder = Folder(path, postgres, (path / "lake").as_uri(), COUNTED)
    moments = {each.name: 1_600_000_000 + n for n, each in enumerate(arrivals)}
    arrivals = dice.sample(arrivals, len(arrivals))
    arrived: dict[str, tuple[Arrival, int]] = {}
    for arrival in arrivals:
        folder.put(arrival.name, *contents[arrival.content], at=moments[arrival.name])
        arrived[arrival.name] = arrival, moments[arrival.name]
        if dice.random() < 0.5 or len(arrived) == len(arrivals):
            folder.load(full=dice.random() < 0.2)
            rows = query(
                postgres,
                "SELECT record_id::text, coalesce(to_char(started_at, 'YYYY-MM-DD'), ''),"
                " trim_scale(amount)::text FROM raw_t.calls WHERE NOT _deleted",
            )
            assert set(rows) == _expected(contents, arrived)
            folder.check()
            assert total_check(postgres, COUNTED, AMOUNTS).wrong == 0
            if dice.random() < 0.3:  # archived
                (path / dice.choice(sorted(each.name for each in path.glob("*.csv")))).unlink()


# Kills and size.

STEPS = {
    "before a file is read": (files_load.FilesLoad, "_read", False),
    "when it is staged": (files_load.FilesLoad, "_stage", True),
    "before all are counted": (files_load.FilesLoad, "_count", False),
    "when raw and lake are written": (files_load.FilesLoad, "merge", True),
    "before the source's statement": (files_load.FilesLoad, "_statement", False),
    "when the load is recorded": (engine, "record", True),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_leaves_nothing_and_the_next_load_has_all(folder: Folder, step: str) -> None:
    folder.put("calls_1.csv", *(_call(n) for n in range(50)), "broken")
    folder.put("calls_2.csv", _call(7), _call(100))
    folder.load()
    before = folder.rows(), folder.files()
    folder.put("calls_1_v1.csv", *(_call(n) for n in range(20)))
    folder.put("calls_3.csv", _call(200), "broken")

    def killed() -> None:
        owner, name, is_after = STEPS[step]
        done = getattr(owner, name)

        def die(*given: object, **named: object) -> object:
            if is_after:
                done(*given, **named)
            os.kill(os.getpid(), signal.SIGKILL)
            return None

        setattr(owner, name, die)
        folder.load()

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert (folder.rows(), folder.files()) == before
    folder.check()
    folder.load()
    assert [record for record, _ in folder.rows()] == [*range(20), 100, 200]
    folder.check()
    root = Path(folder.lake.removeprefix("file://"))
    listed = {path for (path,) in query(folder.postgres, "SELECT path FROM ingestion.lake_files")}
    assert {str(p.relative_to(root)) for p in root.rglob("*.parquet")} == listed
    assert query(folder.postgres, "SELECT count(*) FROM ingestion.attempts") == [(0,)]


MANY = int(os.environ.get("FILES_MANY", "200"))
"""Set FILES_MANY=10000 for the large form, and pytest's `-s` for its seconds."""


def test_work_follows_change_and_not_the_number_of_files(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(MANY):
        folder.put(f"calls_{number}.csv", *(_call(number * 10 + n) for n in range(10)))
    opened: list[str] = []
    content = FilesReader.content

    def noted(self: FilesReader, found: Found) -> object:
        opened.append(found.name)
        return content(self, found)

    monkeypatch.setattr(FilesReader, "content", noted)

    def timed(what: str, work: Callable[[], object]) -> list[str]:
        opened.clear()
        started = time.monotonic()
        work()
        print(f"{MANY:,} files, {what}: {time.monotonic() - started:.2f} s")
        return list(opened)

    assert len(timed("all new", folder.load)) == MANY
    assert timed("nothing new, looked at", folder.is_changed) == []
    assert timed("nothing new, loaded", folder.load) == []
    folder.put("calls_x1.csv", _call(1))  # no file of the table
    folder.put("calls_0_v1.csv", *(_call(n) for n in range(9)))
    assert timed("one corrected", folder.load) == ["calls_0_v1.csv"]
    assert len(folder.rows()) == MANY * 10 - 1
    folder.check()


LINES = int(os.environ.get("FILES_LINES", "60000"))
"""Set FILES_LINES=2000000 for the large form."""


def test_a_large_file_streams_through_bounded_memory(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder.path / "calls_1.csv.gz"
    with gzip.open(path, "wt", compresslevel=1) as file:
        file.write(f"{HEADER}\n")
        for number in range(LINES):
            # Every thousandth line has a quoted field, and every ten thousandth is broken.
            record = _call(number)
            if number % 10_000 == 9_999:
                record = "broken"
            elif number % 1_000 == 999:
                record = record.replace("4917", '"49\n17"')
            file.write(f"{record}\n")
    os.utime(path, (1_600_000_000, 1_600_000_000))
    monkeypatch.setattr(lines, "_BLOCK_BYTES", min(lines._BLOCK_BYTES, LINES * 4))

    def load_and_tell(pipe: object) -> None:
        started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        result = folder.load()
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - started
        pipe.send(json.dumps([result.inserted, result.quarantined, grown]))  # type: ignore[attr-defined]

    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=load_and_tell, args=(sender,))
    process.start()
    process.join()
    inserted, quarantined, grown = json.loads(receiver.recv())
    assert (inserted, quarantined) == (LINES - LINES // 10_000, LINES // 10_000)
    assert grown < 300_000, f"{grown} KB"
    folder.check()

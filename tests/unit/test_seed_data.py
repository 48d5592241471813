"""The parts of the seed data that need no server: packages, sizes, rhythm, products, and the text
for LOAD DATA.
"""

from __future__ import annotations

import fcntl
import signal
import struct
import termios
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bson import Decimal128, Int64, ObjectId, encode, json_util
from hypothesis import given
from hypothesis import strategies as st

import seed_data
from seed_data.common import databases
from seed_data.common.model import LineSeed, Output, SeedError, documents
from seed_data.common.mongodb import document_of
from seed_data.common.mysql import _fed, lines, statements
from seed_data.common.packages import folder_of, seed_of, seeds_of
from seed_data.common.parameters import DAY, HOUR, Parameters, epoch_microseconds
from seed_data.inspire import generator
from seed_data.shop.parameters import ShopParameters
from seed_data.shop.products import make_products
from seed_data.shop.rhythm import day_weight, hours
from seed_data.telecom import shares
from softcart_assets.assembly import LINES
from softcart_assets.lines.model import Line
from softcart_assets.paths import REPOSITORY

UNTIL = datetime(2026, 3, 4, 15, 30, tzinfo=UTC)


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)
def test_scripts_create_all_declared_tables(line: Line) -> None:
    """They may create further ones, which belong to the program at the source alone."""
    for source in line.sources:
        if source.kind == "mysql" and seed_of(line):
            script = folder_of(line) / f"{source.name}.sql"
            assert set(statements(script)) >= {table.at_source for table in source.tables}


def test_the_documentation_states_the_shares_of_the_operator() -> None:
    stated = (REPOSITORY / "docs" / "telecom.md").read_text()
    for case, share in {
        "written twice": shares.RECORD_DUPLICATE,
        "days late": shares.RECORD_LATE,
        "half the amount": shares.CHARGE_CORRECTED,
        "are cancelled": shares.INVOICE_CANCELLED,
        "are disputed": shares.INVOICE_DISPUTED,
        "nobody pays": shares.INVOICE_UNPAID,
    }.items():
        assert f"{case} | {100 * share:g}% |" in stated, case


def _package(folder: Path, name: str, content: str, monkeypatch: pytest.MonkeyPatch) -> Line:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(content)
    monkeypatch.setattr(seed_data, "__path__", [*seed_data.__path__, str(folder)])
    return Line(name, "A test.", owner="team:test")


def test_a_line_is_found_by_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = (
        "from seed_data.common.model import LineSeed\nSEED = LineSeed(lambda parameters, "
        "output: None)"
    )
    line = _package(tmp_path, "found", content, monkeypatch)
    without = Line("without", "No seed data.", owner="team:test")
    assert isinstance(seed_of(line), LineSeed)
    assert [each.name for each, _ in seeds_of([line, without])] == ["found"]
    assert folder_of(line) == tmp_path / "found"
    with pytest.raises(SeedError, match="seed_data/<line> for without"):
        seeds_of([without])


def test_a_package_without_a_seed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = _package(tmp_path, "seedless", "", monkeypatch)
    with pytest.raises(SeedError, match=r"seed_data\.seedless has no SEED"):
        seed_of(line)


def test_only_wanted_tables_are_written_and_each_is_announced(tmp_path: Path) -> None:
    written: list[tuple[str, Path]] = []
    output = Output(
        tmp_path,
        ["files.letters"],
        lambda: pytest.fail("no session is needed"),
        lambda table, path: written.append((table, path)),
    )
    moment = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    output.write("files.letters", documents([{"_id": 1, "at": moment}]))
    output.write("files.stamps", documents([]))
    assert written == [("files.letters", tmp_path / "files.letters")]
    [text] = pq.read_table(tmp_path / "files.letters")["document"].to_pylist()
    assert json_util.loads(text) == {"_id": 1, "at": moment.replace(tzinfo=None)}
    assert output.wants("files.stamps", "files.letters")
    assert not output.wants("files.stamps")


@pytest.mark.parametrize("scale", [0, -1, 1e9])
def test_senseless_scales_are_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="scale"):
        Parameters(scale, 1, UNTIL)


@given(
    st.floats(0.001, 5),
    st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)),
)
def test_the_hours_hold_every_order_once(scale: float, until: datetime) -> None:
    parameters = ShopParameters(scale, 1, until)
    first_ids = hours(parameters).first_ids
    assert first_ids[0] == 1
    assert first_ids[-1] == parameters.orders + 1
    assert first_ids == sorted(first_ids)
    assert len(first_ids) - 1 > (parameters.end - parameters.start) // HOUR


def test_black_friday_is_the_day_after_thanksgiving() -> None:
    start = datetime(2025, 1, 1, tzinfo=UTC)
    november = {day: day_weight(datetime(2025, 11, day, tzinfo=UTC), start) for day in range(1, 31)}
    assert max(november, key=lambda day: november[day]) == 28


def test_companions_and_substitutes_are_products_that_were_always_there() -> None:
    parameters = ShopParameters(0.5, 3, UNTIL)
    products = make_products(parameters)
    assert len(set(products.ids)) == parameters.products == len(products.substitutes)
    assert sorted(products.ranking) == list(range(parameters.products))
    assert set(products.companions) < set(range(parameters.products))
    for number in set(products.substitutes):
        assert products.introduced[number] < parameters.start
        assert products.withdrawn[number] > parameters.end
    discontinued = [each for each in products.documents if each["status"] == "discontinued"]
    assert discontinued
    ended = min(epoch_microseconds(product["updated_at"]) for product in discontinued)
    assert ended > parameters.start + 200 * DAY - 1000


def _unescape(value: str) -> str | None:
    """What MySQL reads: the reference for `lines`."""
    if value == r"\N":
        return None
    text, characters = "", iter(value)
    for character in characters:
        text += (
            {"t": "\t", "n": "\n", "\\": "\\"}[next(characters)] if character == "\\" else character
        )
    return text


ROWS = st.lists(
    st.tuples(
        st.none() | st.text(st.characters(exclude_categories=["Cs"])),
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | st.decimals(-999, 999, places=2),
        st.none() | st.datetimes(datetime(1000, 1, 1), datetime(9999, 1, 1)),
    ),
    min_size=1,
)


@given(ROWS)
def test_every_value_survives_the_text_format(rows: list[tuple]) -> None:
    names = ["text", "number", "amount", "moment"]
    types = [pa.string(), pa.int64(), pa.decimal128(5, 2), pa.timestamp("us", tz="UTC")]
    columns = [
        pa.array(column, type_)
        for column, type_ in zip(zip(*rows, strict=True), types, strict=True)
    ]
    written = lines(pa.record_batch(columns, names)).to_pybytes().decode()
    assert written.endswith("\n")
    read = [[_unescape(value) for value in line.split("\t")] for line in written[:-1].split("\n")]
    expected = [
        [
            text,
            None if number is None else str(number),
            None if amount is None else f"{amount:.2f}",
            None if moment is None else moment.isoformat(" ", "microseconds"),
        ]
        for text, number, amount, moment in rows
    ]
    assert [[t, n, a, m] for t, n, a, m in read] == expected


def test_a_sliced_batch_is_written_without_its_neighbours() -> None:
    batch = pa.record_batch([pa.array(["a", "b", "c"])], ["text"]).slice(1, 1)
    assert lines(batch).to_pybytes() == b"b\n"


def test_a_write_that_a_signal_ends_goes_on(tmp_path: Path) -> None:
    """The system then says that it has taken a part, as it does when somebody stops the program."""
    rows = pa.table({"a": ["x" * 999] * 1_000})
    file = tmp_path / "part-0.parquet"
    pq.write_table(rows, file)
    ended: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: ended.append(number))
    try:
        with _fed([file], tmp_path / "pipe", lambda _: None) as feeder:
            with open(feeder.pipe, "rb") as pipe:
                # A full pipe keeps the feeder in the middle of its write.
                full = fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
                while feeder.is_alive() and _waiting(pipe.fileno()) < full:
                    time.sleep(0.01)
                assert feeder.ident
                signal.pthread_kill(feeder.ident, signal.SIGUSR1)
                while not ended:
                    time.sleep(0.01)
                assert len(pipe.read()) == 1_000_000
    finally:
        signal.signal(signal.SIGUSR1, before)


def _waiting(descriptor: int) -> int:
    """How many bytes a pipe holds."""
    answer = fcntl.ioctl(descriptor, termios.FIONREAD, struct.pack("i", 0))
    found: int = struct.unpack("i", answer)[0]
    return found


def test_tables_that_have_not_begun_are_not_made_after_one_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those under way wait until the threads are told to end, so no clock decides."""
    ending, made = threading.Event(), list[str]()

    class Threads(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            ending.set()
            super().shutdown(wait=wait)

    def failing() -> None:
        raise RuntimeError("no space")

    def making(name: str) -> Any:
        def make() -> None:
            made.append(name)
            assert ending.wait(60)

        return make

    tables = {"t.failing": failing} | {f"t.{n}": making(f"t.{n}") for n in range(20)}
    world = SimpleNamespace(base=lambda: None, tables=lambda base: tables)
    monkeypatch.setattr(generator, "World", lambda *_: world)
    monkeypatch.setattr(generator, "ThreadPoolExecutor", Threads)
    monkeypatch.setattr(Output, "stored", lambda *_: None)
    monkeypatch.setattr(Output, "write_frame", lambda *_: None)
    output = Output(tmp_path, tables.keys(), lambda: None, lambda *_: None)
    with pytest.raises(RuntimeError, match="no space"):
        generator.generate(Parameters(0.1, 1, UNTIL), output)
    assert len(made) <= 4


def test_the_last_hour_is_cut_at_the_end() -> None:
    parameters = ShopParameters(1, 1, UNTIL)
    assert parameters.end == epoch_microseconds(UNTIL)
    assert timedelta(microseconds=parameters.end - parameters.start) > timedelta(days=2 * 365)


def test_a_document_is_read_as_the_driver_reads_it() -> None:
    for value in (
        *(datetime(1969, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)),
        *(ObjectId("65f0c0ffee65f0c0ffee0001"), Int64(5), 2**40, 1.5, float("inf"), b"\x00", None),
        *(Decimal128("1.50"), {"one": "$two"}, [{"a": [True]}], "text"),
    ):
        text = json_util.dumps({"_id": 1, "value": value})
        assert encode(document_of(text)) == encode(json_util.loads(text)), value


def _files(folder: Path, *sizes: int) -> list[int]:
    """Parquet files with one column of numbers. Returns the numbers."""
    first = 0
    for size in sizes:
        pq.write_table(
            pa.table({"n": range(first, first + size)}), folder / f"part-{first:05}.parquet"
        )
        first += size
    return [*range(first)]


def test_rows_are_written_once_and_never_many_more_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = _files(tmp_path, 95, 0, 7, 300)
    batches, read, done = databases._batches, 0, 0
    written: list[int] = []

    def counted(directory: Path, rows: int) -> Iterator[pa.RecordBatch]:
        nonlocal read
        for batch in batches(directory, rows):
            read += batch.num_rows
            yield batch

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        assert read - done <= 2 * 3 * 10

    def write(batch: pa.RecordBatch) -> None:
        written.extend(batch["n"].to_pylist())

    monkeypatch.setattr(databases, "_batches", counted)
    assert databases.write_batches(tmp_path, 10, write, 3, advance) == len(numbers) == done
    assert sorted(written) == numbers


def test_a_batch_that_is_refused_ends_the_load(tmp_path: Path) -> None:
    _files(tmp_path, 1000)
    written: list[int] = []

    def write(batch: pa.RecordBatch) -> None:
        [number] = batch["n"].to_pylist()
        if number == 5:
            raise SeedError("refused")
        written.append(number)

    with pytest.raises(SeedError, match="refused"):
        databases.write_batches(tmp_path, 1, write, 3, lambda rows: None)
    # It is found when the batches before it are through, and those that were read go on.
    assert len(written) < 5 + 2 * 3

"""The parts of the seed data that need no server: sizes, rhythm, catalog, and the text that LOAD DATA reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from softcart_assets.sources import CATALOG, SHOP

from seed_data.catalog import make_catalog
from seed_data.generator import COLLECTIONS, TABLES
from seed_data.loader import lines, statements
from seed_data.parameters import DAY, Parameters, epoch_microseconds
from seed_data.rhythm import HOUR, day_weight, hours

UNTIL = datetime(2026, 3, 4, 15, 30, tzinfo=UTC)


def test_the_generator_makes_exactly_the_declared_tables() -> None:
    assert set(statements()) == set(TABLES) == {table.name for table in SHOP.tables}
    assert set(COLLECTIONS) == {table.name for table in CATALOG.tables}


@pytest.mark.parametrize("scale", [0, -1, 1e9])
def test_senseless_scales_are_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="scale"):
        Parameters(scale, 1, UNTIL)


@given(
    st.floats(0.001, 5),
    st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)),
)
def test_the_hours_hold_every_order_once(scale: float, until: datetime) -> None:
    parameters = Parameters(scale, 1, until)
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
    parameters = Parameters(0.5, 3, UNTIL)
    catalog = make_catalog(parameters)
    assert len(set(catalog.ids)) == parameters.products == len(catalog.substitutes)
    assert sorted(catalog.ranking) == list(range(parameters.products))
    assert set(catalog.companions) < set(range(parameters.products))
    for number in set(catalog.substitutes):
        assert catalog.introduced[number] < parameters.start
        assert catalog.withdrawn[number] > parameters.end
    discontinued = [product for product in catalog.products if product["status"] == "discontinued"]
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


def test_the_last_hour_is_cut_at_the_end() -> None:
    parameters = Parameters(1, 1, UNTIL)
    assert parameters.end == epoch_microseconds(UNTIL)
    assert timedelta(microseconds=parameters.end - parameters.start) > timedelta(days=2 * 365)

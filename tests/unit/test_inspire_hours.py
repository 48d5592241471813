"""When people may be written to, in every zone, also on days when clocks change."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from softcart_assets.inspire_app.hours import (
    QuietHours,
    is_allowed,
    moment_of,
    next_allowed,
)

ZONES = sorted(available_timezones() - {"localtime", "Factory"})
BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = QuietHours(time(21), time(8))

zones = st.sampled_from(ZONES).map(ZoneInfo)
minutes = st.times().map(lambda each: each.replace(second=0, microsecond=0))
quiet_hours = st.builds(QuietHours, minutes, minutes)
weekdays = st.frozensets(st.integers(0, 6))
moments = st.datetimes(datetime(2010, 1, 1), datetime(2036, 1, 1), timezones=st.just(UTC))


@st.composite
def around_changes(draw: st.DrawFn) -> tuple[ZoneInfo, datetime]:
    """A zone, and a moment within a day and a half of a change of its clocks, if it has one."""
    zone = draw(zones)
    start = draw(moments)
    changed = [
        day
        for day in (start + timedelta(days=number) for number in range(400))
        if day.astimezone(zone).utcoffset()
        != (day + timedelta(days=1)).astimezone(zone).utcoffset()
    ]
    day = draw(st.sampled_from(changed)) if changed else start
    return zone, day + timedelta(minutes=draw(st.integers(-720, 2160)))


def brute_force(
    moment: datetime, zone: ZoneInfo, quiet: QuietHours, days: frozenset[int]
) -> datetime | None:
    """The first allowed moment, by trying each minute of the next days."""
    whole = moment.replace(second=0, microsecond=0)
    tries = [moment, *(whole + timedelta(minutes=number) for number in range(1, 9 * 1440))]
    return next((each for each in tries if is_allowed(each, zone, quiet, days)), None)


def test_quiet_hours_over_midnight() -> None:
    assert NIGHT.hold_at(time(21))
    assert NIGHT.hold_at(time(3))
    assert not NIGHT.hold_at(time(8))
    assert not NIGHT.hold_at(time(20, 59, 59))


def test_quiet_hours_by_day() -> None:
    quiet = QuietHours(time(9), time(17))
    assert [quiet.hold_at(time(hour)) for hour in (8, 9, 16, 17)] == [False, True, True, False]


def test_the_same_time_twice_means_no_quiet_hours() -> None:
    assert not any(QuietHours(time(8), time(8)).hold_at(time(hour)) for hour in range(24))


def test_no_weekday_means_never() -> None:
    assert next_allowed(datetime(2026, 1, 1, tzinfo=UTC), BERLIN, NIGHT, frozenset()) is None


@pytest.mark.parametrize(
    ("moment", "quiet", "expected"),
    [
        # Clocks are put forward from 2 to 3 at 1:00 UTC: quiet hours that end at 2:30 end at 3:00.
        ("2026-03-29 00:30", QuietHours(time(22), time(2, 30)), "2026-03-29 01:00"),
        # Clocks are put back from 3 to 2 at 1:00 UTC. 2:15 comes twice, the first is good.
        ("2026-10-24 22:30", QuietHours(time(22), time(2, 15)), "2026-10-25 00:15"),
        # At 3:00 it is 2:00 again, before the quiet hours.
        ("2026-10-25 00:45", QuietHours(time(2, 30), time(8)), "2026-10-25 01:00"),
        ("2026-10-25 01:30", QuietHours(time(2, 30), time(8)), "2026-10-25 07:00"),
    ],
)
def test_clocks_change_in_berlin(moment: str, quiet: QuietHours, expected: str) -> None:
    found = next_allowed(datetime.fromisoformat(moment).replace(tzinfo=UTC), BERLIN, quiet)
    assert found == datetime.fromisoformat(expected).replace(tzinfo=UTC)


def test_a_zone_that_skips_a_day() -> None:
    """Samoa had no 30 December 2011, a Friday."""
    apia = ZoneInfo("Pacific/Apia")
    late = datetime(2011, 12, 29, 23, tzinfo=apia).astimezone(UTC)
    found = next_allowed(late, apia, NIGHT)
    assert found is not None
    assert found.astimezone(apia).replace(tzinfo=None) == datetime(2011, 12, 31, 8)
    found = next_allowed(late, apia, NIGHT, frozenset({4}))
    assert found is not None
    assert found.astimezone(apia).replace(tzinfo=None) == datetime(2012, 1, 6, 8)


@given(around_changes(), quiet_hours, weekdays)
@example(
    (ZoneInfo("Australia/Lord_Howe"), datetime(2026, 10, 3, 15, tzinfo=UTC)),
    QuietHours(time(2), time(2, 10)),
    frozenset({6}),
)
def test_it_is_the_first_allowed_minute(
    place: tuple[ZoneInfo, datetime], quiet: QuietHours, days: frozenset[int]
) -> None:
    zone, moment = place
    assert next_allowed(moment, zone, quiet, days) == brute_force(moment, zone, quiet, days)


@given(st.data())
def test_nothing_goes_out_in_quiet_hours_of_any_zone(data: st.DataObject) -> None:
    moment = data.draw(moments)
    for name in ZONES:
        zone = ZoneInfo(name)
        found = next_allowed(moment, zone, NIGHT)
        assert found is not None
        assert found >= moment
        assert 8 <= found.astimezone(zone).hour < 21


def test_a_reminder_at_a_time_that_clocks_leap_over_or_show_twice() -> None:
    assert moment_of(date(2026, 3, 29), time(2, 30), BERLIN) == datetime(
        2026, 3, 29, 1, 30, tzinfo=UTC
    )
    assert moment_of(date(2026, 10, 25), time(2, 30), BERLIN) == datetime(
        2026, 10, 25, 0, 30, tzinfo=UTC
    )

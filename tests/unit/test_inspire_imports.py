"""Files of other applications: what is taken from them, and what is refused."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softcart_assets.inspire_app import imports
from softcart_assets.inspire_app.imports import NotReadable, read
from softcart_assets.inspire_app.workouts import Origin

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
START = datetime(2026, 3, 1, 6, 30, tzinfo=UTC)
ZONE = "Europe/Berlin"
GPX = "http://www.topografix.com/GPX/1/1"
TCX = "http://www.garmin.com/xmlschemas/TrainingCenterDatabase/v2"


def gpx(*tracks: str, namespace: str = f'xmlns="{GPX}"') -> bytes:
    head = f'<?xml version="1.0" encoding="UTF-8"?><gpx version="1.1" creator="t" {namespace}>'
    return f"{head}{''.join(tracks)}</gpx>".encode()


def track(
    name: str = "Run",
    kind: str = "running",
    start: datetime | None = START,
    points: int = 61,
) -> str:
    """A track to the north, 11.1 m a minute, which climbs 2 m a minute for half an hour."""
    made = []
    for n in range(points):
        at = f"<time>{start + timedelta(minutes=n):%Y-%m-%dT%H:%M:%SZ}</time>" if start else ""
        made.append(
            f'<trkpt lat="{52 + n / 10_000:.4f}" lon="13.0"><ele>{30 + 2 * min(n, 30)}</ele>{at}'
            "<extensions><x:hr xmlns:x='urn:x'>150</x:hr></extensions></trkpt>"
        )
    type_ = f"<type>{kind}</type>" if kind else ""
    return f"<trk><name>{name}</name>{type_}<trkseg>{''.join(made)}</trkseg></trk>"


def lap(start: str, seconds: float, metres: float, points: str = "") -> str:
    return (
        f'<Lap StartTime="{start}"><TotalTimeSeconds>{seconds}</TotalTimeSeconds>'
        f"<DistanceMeters>{metres}</DistanceMeters><Calories>1</Calories>"
        f"<Track>{points}</Track></Lap>"
    )


def point(at: str, watts: int) -> str:
    return (
        f"<Trackpoint><Time>{at}</Time><AltitudeMeters>10</AltitudeMeters><Extensions>"
        f'<TPX xmlns="http://www.garmin.com/xmlschemas/ActivityExtension/v2"><Watts>{watts}</Watts>'
        "</TPX></Extensions></Trackpoint>"
    )


def tcx(*activities: str) -> bytes:
    return (
        f'<TrainingCenterDatabase xmlns="{TCX}"><Activities>{"".join(activities)}</Activities>'
        "</TrainingCenterDatabase>"
    ).encode()


def activity(sport: str, at: str, *laps: str) -> str:
    return f'<Activity Sport="{sport}"><Id>{at}</Id>{"".join(laps)}</Activity>'


def _crc(data: bytes) -> int:
    table = [0x0000, 0xCC01, 0xD801, 0x1400, 0xF001, 0x3C00, 0x2800, 0xE401]
    table += [0xA001, 0x6C00, 0x7800, 0xB401, 0x5000, 0x9C01, 0x8801, 0x4400]
    crc = 0
    for byte in data:
        for part in (byte, byte >> 4):
            crc = (crc >> 4) & 0x0FFF ^ table[crc & 0xF] ^ table[part & 0xF]
    return crc


EPOCH = datetime(1989, 12, 31, tzinfo=UTC)
SESSION: Sequence[tuple[int, str]] = (
    (253, "I"),  # timestamp
    (2, "I"),  # start_time
    (8, "I"),  # total_timer_time, 1/1000 s
    (9, "I"),  # total_distance, 1/100 m
    (5, "B"),  # sport
    (6, "B"),  # sub_sport
    (22, "H"),  # total_ascent
    (20, "H"),  # avg_power
)
_BASE_TYPES = {"I": 0x86, "H": 0x84, "B": 0x00}


def fit(*sessions: tuple[datetime, float, float, int, int, int, int], raw_start: int = 0) -> bytes:
    """A FIT file by its documented layout: a header, a definition, sessions, a checksum."""
    fields = b"".join(
        struct.pack("<BBB", number, struct.calcsize(code), _BASE_TYPES[code])
        for number, code in SESSION
    )
    data = struct.pack("<BBBHB", 0x40, 0, 0, 18, len(SESSION)) + fields
    for start, seconds, metres, sport, sub_sport, ascent, watts in sessions:
        began = raw_start or int((start - EPOCH).total_seconds())
        values = (
            *(began + round(seconds), began, round(seconds * 1000), round(metres * 100)),
            *(sport, sub_sport, ascent, watts),
        )
        data += b"\x00" + struct.pack("<" + "".join(code for _, code in SESSION), *values)
    header = struct.pack("<BBHI4s", 14, 0x20, 2140, len(data), b".FIT")
    header += struct.pack("<H", _crc(header))
    return header + data + struct.pack("<H", _crc(header + data))


def test_a_track_is_a_workout() -> None:
    [found] = read(gpx(track()), ZONE, NOW).workouts
    assert (found.activity, found.origin, found.started_at) == ("run", Origin.GPX, START)
    assert (found.duration, found.time_zone, found.note) == (
        timedelta(hours=1),
        ZONE,
        "Run",
    )
    assert abs(found.details["distance_m"] - Decimal(667)) < 3
    assert 40 < found.details["ascent_m"] <= 60


def test_several_workouts_of_a_file_with_one_that_is_of_no_use() -> None:
    ride = track("Ride", "cycling", START + timedelta(days=1))
    found = read(
        gpx(track(), track("Plan", start=None), ride),
        ZONE,
        NOW,
    )
    assert [each.activity for each in found.workouts] == ["run", "ride"]
    assert found.problems == ["Workout 2: It is a route without times."]


@pytest.mark.parametrize("namespace", ["", 'xmlns="http://www.topografix.com/GPX/1/0"'])
def test_older_files(namespace: str) -> None:
    assert read(gpx(track(), namespace=namespace), ZONE, NOW).workouts


def test_the_zone_says_which_day_it_was() -> None:
    late = track(start=datetime(2026, 3, 1, 23, 30, tzinfo=UTC))
    days = [read(gpx(late), zone, NOW).workouts[0].local_date.day for zone in (ZONE, "UTC")]
    assert days == [2, 1]


def test_laps_of_tcx_add_up_and_activities_stay_apart() -> None:
    at, later = "2026-03-01T06:30:00.000Z", "2026-03-01T08:00:00Z"
    points = point(at, 100) + point("2026-03-01T06:40:00.000Z", 300)
    content = tcx(
        activity("Biking", at, lap(at, 600.4, 5000, points), lap(at, 300, 2500.5)),
        activity("Running", later, lap(later, 60, 250)),
        activity("Other", later, lap(later, 60, 250)),
    )
    found = read(content, ZONE, NOW)
    assert [(each.activity, each.duration.total_seconds()) for each in found.workouts] == [
        ("ride", 900),
        ("run", 60),
    ]
    ride = found.workouts[0].details
    assert (ride["distance_m"], ride["average_watts"]) == (Decimal("7500.5"), Decimal(200))
    assert "Choose one" in found.problems[0]
    assert read(content, ZONE, NOW, "walk").workouts[2].activity == "walk"


def test_sessions_of_fit() -> None:
    content = fit(
        (START, 1800.6, 5000.25, 1, 0, 120, 0xFFFF),
        (START + timedelta(hours=1), 3600, 30_000, 2, 0, 300, 210),
        (START + timedelta(hours=3), 900, 0, 10, 20, 0, 0xFFFF),
    )
    found = read(content, ZONE, NOW).workouts
    assert [each.activity for each in found] == ["run", "ride", "strength"]
    assert found[0].duration == timedelta(seconds=1801)
    assert found[0].started_at == START
    assert found[0].details == {"distance_m": Decimal("5000.2"), "ascent_m": Decimal(120)}
    assert found[1].details["average_watts"] == 210
    assert found[2].details == {}
    assert all(each.origin is Origin.FIT for each in found)
    # Two files, one behind the other.
    both = fit((START, 60, 1, 1, 0, 0, 0)) + fit((START, 120, 1, 1, 0, 0, 0))
    assert len(read(both, ZONE, NOW).workouts) == 2


def test_a_device_that_did_not_know_the_time() -> None:
    with pytest.raises(NotReadable, match="did not know"):
        read(fit((START, 60, 1, 1, 0, 0, 0), raw_start=1000), ZONE, NOW)


@pytest.mark.parametrize("make", [lambda: gpx(track()), lambda: fit((START, 60, 9, 1, 0, 0, 0))])
def test_compressed_files(make: Callable[[], bytes]) -> None:
    content = make()
    assert read(gzip.compress(content), ZONE, NOW) == read(content, ZONE, NOW)
    with pytest.raises(NotReadable, match="damaged"):
        read(gzip.compress(content)[:-20], ZONE, NOW)


def test_a_small_file_that_unpacks_to_a_huge_one() -> None:
    bomb = gzip.compress(bytes(41_000_000), 9)
    assert len(bomb) < 1_000_000
    with pytest.raises(NotReadable, match="Unpacked"):
        read(bomb, ZONE, NOW)


def test_a_time_that_is_none_in_utc_damages_its_workout_only() -> None:
    begun = lap(START.isoformat(), 600, 2000)
    good = activity("Running", START.isoformat(), begun)
    bad = activity("Running", "0001-01-01T00:00:00+14:00", begun)
    found = read(tcx(bad, good), ZONE, NOW)
    assert (len(found.workouts), found.problems) == (1, ["Workout 1: It is damaged."])
    with pytest.raises(NotReadable):
        read(tcx(bad), ZONE, NOW)


LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE gpx [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;">]><gpx><trk><name>&c;</name></trk></gpx>'
)
OUTSIDE = (
    '<?xml version="1.0"?><!DOCTYPE gpx [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    "<gpx><trk><name>&a;</name></trk></gpx>"
)
PARAMETER = '<!DOCTYPE gpx [<!ENTITY % a SYSTEM "http://127.0.0.1:1/x">%a;]><gpx/>'


@pytest.mark.parametrize("text", [LAUGHS, OUTSIDE, PARAMETER, '<!DOCTYPE gpx SYSTEM "x"><gpx/>'])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_refused(text: str, encoding: str) -> None:
    with pytest.raises(NotReadable, match="document type"):
        read(text.encode(encoding), ZONE, NOW)


def test_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotReadable, match="MB"):
        read(bytes(imports.MOST_BYTES + 1), ZONE, NOW)
    with pytest.raises(NotReadable, match="too many points"):
        read(gpx("<trk>" * 40 + "</trk>" * 40), ZONE, NOW)
    with pytest.raises(NotReadable, match="up to 50 workouts"):
        read(gpx(*[track(points=2)] * 51), ZONE, NOW)
    monkeypatch.setattr(imports, "_MOST_ELEMENTS", 100)
    with pytest.raises(NotReadable, match="too many points"):
        read(gpx(track()), ZONE, NOW)
    monkeypatch.setattr(imports, "_SECONDS", -1.0)
    with pytest.raises(NotReadable, match="too long"):
        read(gpx(track()), ZONE, NOW)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no GPX"),
        (b"PK\x03\x04", "no GPX"),
        (b"<html/>", "no GPX"),
        (gpx(), "no workout"),
        (gpx(track())[:-30], "damaged"),
        (tcx(), "no workout"),
        (tcx(activity("Running", "yesterday", lap("x", 60, 1))), "damaged"),
        (tcx(activity("Running", "2026-03-01T06:30:00Z")), "no laps"),
        (fit((START, 60, 9, 1, 0, 0, 0))[:-1] + b"\x00", "damaged"),
        (fit(), "no workout"),
        (gpx(track(start=datetime(2026, 3, 20, tzinfo=UTC))), "not to come"),
        (gpx(track(name="x", kind="")), "Choose one"),
        (b'<?xml version="1.0" encoding="nope"?><gpx/>', "no GPX"),
    ],
)
def test_what_is_wrong_is_told(content: bytes, told: str) -> None:
    with pytest.raises(NotReadable, match=told):
        read(content, ZONE, NOW)


@pytest.mark.parametrize(
    ("place", "byte"),
    [(19, 0x10), (0, 0x10)],
    ids=["more fields than there are bytes", "a longer header"],
)
def test_a_fit_file_with_a_wrong_length_is_refused(place: int, byte: int) -> None:
    changed = bytearray(fit((START, 60, 9, 1, 0, 0, 0)))
    changed[place] = byte
    with pytest.raises(NotReadable, match="damaged"):
        read(bytes(changed), ZONE, NOW)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(
        [
            gpx(track(points=4)),
            tcx(activity("Running", "2026-03-01T06:30:00Z", lap("x", 60, 1))),
            fit((START, 60, 9, 1, 0, 0, 0)),
        ]
    ),
    st.data(),
)
def test_whatever_is_damaged_is_read_or_refused(content: bytes, data: st.DataObject) -> None:
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(changed) - 1))
        changed[place : place + 1] = data.draw(st.binary(max_size=3))
        changed = changed or bytearray(b" ")
    try:
        found = read(bytes(changed), ZONE, NOW)
    except NotReadable:
        return
    assert all(not each.problems(NOW) for each in found.workouts)

"""Workouts in files of other applications: GPX, TCX and FIT, also compressed with gzip.

Files come from strangers. Before a library sees XML, it is read here with limits and written anew:
a document type, and with it every entity, is refused, and so is what nobody could have recorded.
"""

from __future__ import annotations

import gzip
import io
import math
import re
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from xml.etree import ElementTree

import fitdecode
import gpxpy
from gpxpy.gpx import GPXException, GPXTrack
from tcxreader.tcxreader import TCXReader

from softcart_assets.inspire_app.workouts import Origin, Workout

MOST_BYTES: Final = 8_000_000
"""Of a file as it is sent."""

_MOST_UNPACKED: Final = 40_000_000
_MOST_ELEMENTS: Final = 150_000
"""Fourteen hours with a point every second. Reading them takes some three seconds."""
_DEEPEST: Final = 30
_MOST_WORKOUTS: Final = 50
_SECONDS: Final = 10.0

_GPX: Final = {
    "",
    "http://www.topografix.com/GPX/1/0",
    "http://www.topografix.com/GPX/1/1",
}
_TCX: Final = "http://www.garmin.com/xmlschemas/TrainingCenterDatabase/v2"
_POWER: Final = "http://www.garmin.com/xmlschemas/ActivityExtension/v2"

_WORDS: Final = (
    ("yoga", r"yoga"),
    ("strength", r"strength|weight|gym\b|lift"),
    ("swim", r"swim"),
    ("ride", r"rid(e|ing)\b|cycl|bik"),
    ("run", r"\brun|jog|treadmill"),
    ("walk", r"walk|hik|stroll"),
)
"""Activity → a pattern of what other applications call it."""
_MOVES: Final = {
    "run": {"distance_m", "ascent_m"},
    "walk": {"distance_m", "ascent_m"},
    "ride": {"distance_m", "ascent_m", "average_watts"},
    "swim": {"distance_m", "pool_m"},
}


class NotReadable(ValueError):
    """Nothing can be taken from a file. The text says why, and what to do."""


@dataclass
class Found:
    """The workouts of a file, and why others of it cannot be taken."""

    workouts: list[Workout] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Recorded:
    """A workout as a file has it. `told`: what the file calls its activity."""

    told: Sequence[str]
    started_at: datetime
    seconds: float
    details: dict[str, float | None]
    note: str = ""


class _Clock:
    """Ends what takes too long."""

    def __init__(self) -> None:
        self._ends = time.monotonic() + _SECONDS

    def check(self) -> None:
        """Raises `NotReadable`."""
        if time.monotonic() > self._ends:
            raise NotReadable("Reading the file takes too long. Export each workout by itself.")


def read(content: bytes, zone: str, now: datetime, activity: str | None = None) -> Found:
    """The workouts of a file.

    `zone`: of the person. No file says in which zone it was recorded. `activity`: what it is if the
    file does not say. Raises `NotReadable`.
    """
    clock, content = _Clock(), _unpacked(content)
    if content[8:12] == b".FIT":
        origin, parts = Origin.FIT, _fit(content, clock)
    else:
        root = _tree(content, clock)
        if root.tag == "gpx":
            origin, parts = Origin.GPX, _gpx(root)
        elif root.tag == f"{{{_TCX}}}TrainingCenterDatabase":
            origin, parts = Origin.TCX, _tcx(root, clock)
        else:
            raise NotReadable("This is no GPX, TCX or FIT file.")
    found, count = Found(), 0
    for count, part in enumerate(parts, 1):
        if count > _MOST_WORKOUTS:
            raise NotReadable(f"A file may have up to {_MOST_WORKOUTS} workouts. Export fewer.")
        try:
            workout = (
                _workout(part, origin, zone, activity) if isinstance(part, _Recorded) else part
            )
        except _FAULTS:
            # Such as a time that is before the year 1 in UTC.
            workout = "It is damaged."
        wrong = workout.problems(now) if isinstance(workout, Workout) else {"": workout}
        if isinstance(workout, Workout) and not wrong:
            found.workouts.append(workout)
        else:
            found.problems.append(f"Workout {count}: {' '.join(wrong.values())}")
    if not found.workouts:
        raise NotReadable(" ".join(found.problems) or "The file has no workout.")
    return found


def _unpacked(content: bytes) -> bytes:
    if len(content) > MOST_BYTES:
        raise NotReadable(f"A file may have up to {MOST_BYTES // 1_000_000} MB.")
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        with gzip.open(io.BytesIO(content)) as file:
            content = file.read(_MOST_UNPACKED + 1)
    except (OSError, EOFError, zlib.error):
        raise NotReadable("The compressed file is damaged. Send it again.") from None
    if len(content) > _MOST_UNPACKED:
        raise NotReadable(f"Unpacked, a file may have up to {_MOST_UNPACKED // 1_000_000} MB.")
    return content


class _Builder(ElementTree.TreeBuilder):
    """Builds a tree of what the libraries need, and of nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self._kept = self._depth = self._skipped = 0

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        """Refuse a document type: only with it, there can be entities."""
        raise NotReadable("A file with a document type is not read.")

    def start(self, tag: str, attributes: dict[str, str]) -> Any:
        """An element begins."""
        self._depth += 1
        namespace, _, name = tag[1:].rpartition("}") if tag.startswith("{") else ("", "", tag)
        if self._skipped or not (namespace in _GPX or namespace in (_TCX, _POWER)):
            # Something of another program: colours, heart rates, whatever.
            self._skipped += 1
            return None
        self._kept += 1
        if self._kept > _MOST_ELEMENTS or self._depth > _DEEPEST:
            raise NotReadable("The file has too many points. Export each workout by itself.")
        plain = {key: value for key, value in attributes.items() if not key.startswith("{")}
        return super().start(name if namespace in _GPX else tag, plain)

    def end(self, tag: str) -> Any:
        """An element ends."""
        self._depth -= 1
        if self._skipped:
            self._skipped -= 1
            return None
        return super().end(tag)

    def data(self, text: str) -> None:
        """A text."""
        if not self._skipped:
            super().data(text)


def _tree(content: bytes, clock: _Clock) -> ElementTree.Element:
    builder = _Builder()
    parser = ElementTree.XMLParser(target=builder)
    try:
        for start in range(0, len(content), 1 << 16):
            clock.check()
            parser.feed(content[start : start + (1 << 16)])
        root = parser.close()
    # Whether an unknown encoding is a LookupError depends on the version.
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        if isinstance(error, NotReadable):
            raise
        raise NotReadable("This is no GPX, TCX or FIT file, or it is damaged.") from None
    if not isinstance(root, ElementTree.Element):
        raise NotReadable("This is no GPX, TCX or FIT file.")
    return root


def _gpx(root: ElementTree.Element) -> Iterator[_Recorded | str]:
    with _told():
        parsed = gpxpy.parse(ElementTree.tostring(root, encoding="unicode"))
    for track in parsed.tracks:
        yield from _part(lambda: _track(track))  # noqa: B023 (called at once)


def _track(track: GPXTrack) -> _Recorded | str:
    start = track.get_time_bounds().start_time
    seconds = track.get_duration()
    if start is None or not seconds:
        return "It is a route without times."
    return _Recorded(
        (track.type or "", track.name or ""),
        start,
        seconds,
        {"distance_m": track.length_2d(), "ascent_m": track.get_uphill_downhill().uphill},
        track.name or "",
    )


def _tcx(root: ElementTree.Element, clock: _Clock) -> Iterator[_Recorded | str]:
    for activity in root.iter(f"{{{_TCX}}}Activity"):
        clock.check()
        yield from _part(lambda: _tcx_activity(activity))  # noqa: B023 (called at once)


def _tcx_activity(activity: ElementTree.Element) -> _Recorded | str:
    laps = activity.findall(f"{{{_TCX}}}Lap")
    begun = activity.findtext(f"{{{_TCX}}}Id") or (laps[0].get("StartTime") if laps else "")
    if not begun or not laps:
        return "It has no laps with times."
    # The library takes all workouts of a file for one.
    alone = ElementTree.Element(f"{{{_TCX}}}TrainingCenterDatabase")
    ElementTree.SubElement(alone, f"{{{_TCX}}}Activities").append(activity)
    parsed = TCXReader().read(io.BytesIO(ElementTree.tostring(alone)), only_gps=False)
    seconds = sum(float(lap.findtext(f"{{{_TCX}}}TotalTimeSeconds") or 0) for lap in laps)
    metres = sum(float(lap.findtext(f"{{{_TCX}}}DistanceMeters") or 0) for lap in laps)
    watts = (parsed.tpx_ext_stats or {}).get("Watts") or {}
    return _Recorded(
        (activity.get("Sport", ""), activity.findtext(f"{{{_TCX}}}Notes") or ""),
        datetime.fromisoformat(begun.strip()),
        seconds,
        {
            "distance_m": metres or None,
            "ascent_m": parsed.ascent,
            "average_watts": watts.get("avg"),
        },
        (activity.findtext(f"{{{_TCX}}}Notes") or "").strip(),
    )


def _fit(content: bytes, clock: _Clock) -> Iterator[_Recorded | str]:
    with (
        _told(),
        fitdecode.FitReader(
            io.BytesIO(content),
            check_crc=fitdecode.CrcCheck.RAISE,
            error_handling=fitdecode.ErrorHandling.IGNORE,
        ) as reader,
    ):
        # Read whole, so that half a workout of a damaged file is none.
        sessions = []
        for frame in reader:
            clock.check()
            if isinstance(frame, fitdecode.FitDataMessage) and frame.name == "session":
                sessions.append({each.name: each.value for each in frame.fields})
    for session in sessions:
        yield from _part(lambda: _session(session))  # noqa: B023 (called at once)


def _session(session: dict[str, Any]) -> _Recorded | str:
    start = session.get("start_time")
    seconds = session.get("total_timer_time") or session.get("total_elapsed_time")
    # A device that did not know the time counts from when it was switched on.
    if not isinstance(start, datetime) or not seconds:
        return "The device did not know when it was, or how long it took."
    return _Recorded(
        tuple(str(session.get(name) or "") for name in ("sub_sport", "sport")),
        start,
        float(seconds),
        {
            "distance_m": session.get("total_distance"),
            "ascent_m": session.get("total_ascent"),
            "average_watts": session.get("avg_power"),
            "pool_m": session.get("pool_length"),
        },
    )


_FAULTS: Final = (
    *(GPXException, fitdecode.FitError, ElementTree.ParseError),
    # Libraries meet what they do not expect.
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError),
    *(AssertionError, struct.error),
)


@contextmanager
def _told() -> Iterator[None]:
    """Turn a library's errors into `NotReadable`."""
    try:
        yield
    except NotReadable:
        raise
    except _FAULTS:
        raise NotReadable("The file is damaged. Export it again.") from None


def _part(make: Callable[[], _Recorded | str]) -> Iterator[_Recorded | str]:
    """A workout of a file, or why it cannot be taken. The others of the file are still read."""
    try:
        yield make()
    except NotReadable:
        raise
    except _FAULTS:
        yield "It is damaged."


def _workout(part: _Recorded, origin: Origin, zone: str, default: str | None) -> Workout | str:
    activity = _activity(part.told) or default
    if activity is None:
        return "The file does not say which activity it is. Choose one, and send it again."
    start = part.started_at
    details = {
        name: Decimal(str(round(float(value), 1)))
        for name, value in part.details.items()
        if name in _MOVES.get(activity, ()) and value is not None and math.isfinite(value)
    }
    if not math.isfinite(part.seconds) or not 0 < part.seconds < 10**6:
        return "It has no length."
    return Workout(
        activity,
        # Without a zone, the formats mean UTC.
        start.astimezone(UTC) if start.tzinfo else start.replace(tzinfo=UTC),
        zone,
        timedelta(seconds=round(part.seconds)),
        origin,
        note=part.note[:2000],
        details=details,
    )


def _activity(told: Sequence[str]) -> str | None:
    for text in told:
        plain = text.casefold().replace("_", " ")
        for activity, pattern in _WORDS:
            if re.search(pattern, plain):
                return activity
    return None

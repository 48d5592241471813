"""Rankers: in which order items should be shown to a subject, see `rank`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from typing import Any, ClassVar

import numpy as np
import psycopg
import pyarrow as pa
from psycopg import sql

from softcart_assets.lines.model import Ranker
from softcart_assets.ml import tables
from softcart_assets.ml.rank import (
    PLACES,
    Events,
    Items,
    Knowledge,
    RankJudgement,
    Trees,
    fit_all,
    predict,
    read,
)
from softcart_assets.ml.sampling import Interval, Numbers
from softcart_assets.ml.task import Task, UnusableFeatures, Verdict

_MOST_ROWS = 400_000
"""A model is fitted and judged on about so many rows. Of more, a share of the subjects is taken."""
_MONTHS = 6
"""What happened earlier counts no longer."""
_SUBJECTS_AT_ONCE = 1_000
_WORTH_TELLING = 0.5
"""A feature is no reason unless it is so many spreads above what it is for other items."""


@dataclass(frozen=True)
class Known:
    """Events of months. `alike`: the codes of the subjects' traits, by name. The last code of each
    is of names that are not among them."""

    items: Items
    events: Events
    alike: tuple[Mapping[str, int], ...]

    @classmethod
    def of(
        cls,
        model: Ranker,
        listed: Sequence[tuple[Any, ...]],
        rows: Sequence[tuple[Any, ...]],
    ) -> Known:
        """`listed`: items with their traits. `rows`: a number for the subject, item, month, how
        often it was shown and taken, and what the subject is alike by; by subject and month.

        Raises `UnusableFeatures`.
        """
        alike = tuple(
            {name: code for code, name in enumerate(sorted({str(row[place]) for row in rows}))}
            for place in range(5, 5 + len(model.alike))
        )
        traits = [
            np.unique([str(each[place]) for each in listed], return_inverse=True)[1]
            for place in range(1, 1 + len(model.traits))
        ]
        items = Items(
            tuple(each[0] for each in listed),
            np.array(traits, np.int64).reshape(len(model.traits), len(listed)).T,
            ("popular", *model.alike, "own", *model.traits, "similar", "seen"),
            tuple(len(each) + 1 for each in alike),
        )
        places = {name: place for place, name in enumerate(items.names)}
        codes = [[of[str(row[place])] for place, of in enumerate(alike, start=5)] for row in rows]
        events = Events(
            np.array([row[0] for row in rows], np.int64),
            np.array([places[row[1]] for row in rows], np.int64),
            np.array([row[2] for row in rows], np.int64),
            np.array([row[3] for row in rows], np.float64),
            np.array([row[4] for row in rows], np.float64),
            np.array(codes, np.int64).reshape(len(rows), len(alike)),
        )
        if np.isnan(events.shown).any() or np.isnan(events.taken).any():
            raise UnusableFeatures(
                f"aggregates.{model.features}: {model.shown} or {model.taken} is null in some "
                "rows. Let the job write a number there."
            )
        return cls(items, events, alike)

    def codes(self, names: Sequence[str | None]) -> list[int]:
        """The codes of a subject's traits."""
        return [of.get(str(name), len(of)) for of, name in zip(self.alike, names, strict=True)]

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of the most important trait, by code."""
        return (*self.alike[0], "others") if self.alike else ("all",)


class RankerTask(Task[Known, RankJudgement, Trees]):
    """A ranker of a line."""

    promises: ClassVar[Mapping[str, str]] = {
        "plausible": "The NDCG@10 on past months is not significantly above what can be true, that "
        "of no feature alone either. Otherwise a feature knows the future.",
        "useful": "The NDCG@10 is as much better than that of what is popular as declared, and the "
        "candidate is not significantly worse than the champion in months that are new to both.",
        "fair": "In no group of subjects is it significantly worse than what is popular there.",
    }
    columns: ClassVar[Mapping[str, str]] = {
        "place": "1 for what the subject likes best.",
        "item": "What is on this place.",
        "score": "1 for the best of all items, 0 for the last one.",
        "reason": "What speaks most for the item, for the subject to read; or null.",
        "model_version": "Version in the registry that made the order.",
        "data_position": "Positions at the sources up to which the data of the order reach.",
    }
    library = "lightgbm"
    weight = "share of what the trees gain"
    template = "ranker.html.j2"

    def __init__(self, model: Ranker) -> None:
        self._model = model
        self.too_little = (
            f"{model.min_events} items taken and {model.test_months + 2} months are needed."
        )

    def known(self, session: psycopg.Connection) -> Known:
        """The events of months that are over, of all subjects or of a share of them."""
        return _known(session, self._model, is_over=True)

    def digest(self, of: Known) -> str:
        """A digest of the events."""
        found = hashlib.sha256(
            repr((of.items.names, of.alike)).encode() + of.items.traits.tobytes()
        )
        for each in vars(of.events).values():
            found.update(each.tobytes())
        return found.hexdigest()

    def judge(self, of: Known, champion: Trees | None) -> RankJudgement | None:
        """Predict each of the last months from those before it."""
        if of.events.taken.sum() < self._model.min_events:
            return None
        found = predict(of.items, of.events, self._model.test_months, champion)
        if found is None:
            return None
        everywhere = np.ones(len(found.own), bool)
        return RankJudgement(
            own=found.mean(found.own),
            popular=found.mean(found.popular),
            gain=found.gain(everywhere),
            by_group={of.groups[c]: found.gain(found.alike == c) for c in np.unique(found.alike)},
            by_month={_month(m): found.gain(found.months == m) for m in np.unique(found.months)},
            alone={
                name: found.mean(of_feature)
                for name, of_feature in zip(of.items.columns, found.alone.T, strict=True)
            },
            ahead=None
            if np.isnan(found.champion).all()
            else found.mean(found.own - found.champion),
            groups=len(found.own),
            subjects=len(np.unique(found.subjects)),
        )

    def verdicts(self, judgement: RankJudgement) -> list[Verdict]:
        """What must hold of a candidate."""
        model, ceiling = self._model, float(self._model.ceiling.value)
        orders = {"the model": judgement.own, **judgement.alone}
        too_good = {name: each for name, each in orders.items() if each.low > ceiling}
        least, gain, ahead = float(model.min_gain.value), judgement.gain, judgement.ahead
        worse = {name: each for name, each in judgement.by_group.items() if each.high < 0}
        return [
            Verdict(
                "plausible",
                not too_good,
                f"NDCG@{PLACES} {judgement.own}, at most {ceiling} can be true. "
                f"{model.ceiling.reason}"
                + "".join(f" Too good: {name}, {each}." for name, each in too_good.items())
                + (" A feature knows the future. Look for it in the job." if too_good else ""),
            ),
            Verdict(
                "useful",
                gain.value >= least and gain.low > 0 and (ahead is None or ahead.high >= 0),
                f"Better than what is popular by {_percent(gain)}, at least {least:.0%}. "
                f"{model.min_gain.reason}"
                + (f" NDCG@{PLACES} less the champion's: {ahead}." if ahead else ""),
            ),
            Verdict(
                "fair",
                not worse,
                "".join(f"{name}: {_percent(each)}. " for name, each in worse.items())
                + f"It is better or as good in {len(judgement.by_group) - len(worse)} of "
                f"{len(judgement.by_group)} groups.",
            ),
        ]

    def fit(self, of: Known) -> Trees:
        """See `rank.fit_all`."""
        return fit_all(of.items, of.events)

    def read(self, text: str) -> Trees:
        """See `rank.read`."""
        return read(text)

    def scores(self, session: psycopg.Connection, version: int, champion: Trees | None) -> _Orders:
        """The orders for the subjects of the last months, from all that happened till now."""
        return _Orders(session, self._model, version, champion)

    def charts(self, judgement: RankJudgement) -> Iterator[tuple[str, Any]]:
        """The quality beside that of what is popular, and by group."""
        # Only here, because loading Altair takes a second.
        from softcart_assets.ml.pictures import ranker_charts

        return ranker_charts(self._model, judgement)


class _Orders:
    """The first items of each subject, as rows in batches of subjects."""

    def __init__(
        self, session: psycopg.Connection, model: Ranker, version: int, champion: Trees | None
    ) -> None:
        self._session, self._model = session, model
        self._version, self._champion = version, champion
        self._known: Known | None = None
        self._kind = tables.kind_of_subject(session, model)

    @property
    def schema(self) -> pa.Schema:
        return pa.schema(
            [
                (self._model.subject, self._kind),
                ("place", pa.int32()),
                ("item", pa.string()),
                ("score", pa.decimal128(5, 4)),
                ("reason", pa.string()),
                ("model_version", pa.int32()),
                ("data_position", pa.string()),
            ]
        )

    def digest(self) -> str:
        """A digest of what the orders are made of, counted by the database.

        The positions do not count. Otherwise all orders would change with each change at a source.
        """
        if self._champion is None:
            return hashlib.sha256(b"no champion").hexdigest()
        self._known = _known(self._session, self._model, is_over=False)
        if self._known.items.columns != self._champion.names:
            raise UnusableFeatures(
                f"Version {self._version} of {self._model.name}, the champion, wants the features "
                f"{', '.join(self._champion.names)}. Declared are "
                f"{', '.join(self._known.items.columns)}. Train a version that passes the checks."
            )
        names = (self._model.subject, self._model.month, *self._model.inputs)
        row = self._session.execute(
            sql.SQL(
                "SELECT count(*), sum(hashtextextended(ROW({})::text, 0)::numeric)::text FROM {}"
                " WHERE {}"
            ).format(tables.columns(names), tables.features(self._model), _recent(self._model))
        ).fetchone()
        return hashlib.sha256(repr((self._version, row)).encode()).hexdigest()

    def to_batches(self, batch_size: int) -> Iterator[pa.RecordBatch]:
        """The orders. Call `digest` before."""
        if self._champion is None or self._known is None:
            return
        knowledge = Knowledge.of(self._known.items, self._known.events)
        for subjects in self._read():
            yield from self._ordered(self._champion, knowledge, subjects)

    def _read(self) -> Iterator[list[tuple[Any, list[tuple[Any, ...]]]]]:
        """Subjects, each with its rows: position, item, shown, taken and what it is alike by."""
        model = self._model
        names = [model.subject, model.position, model.item, model.shown, model.taken, *model.alike]
        order = tables.columns([model.subject, model.month])
        query = sql.SQL("SELECT {} FROM {} WHERE {} ORDER BY {}").format(
            tables.columns(names),
            tables.features(model),
            _recent(model),
            order,
        )
        with self._session.cursor(name="events") as cursor:
            cursor.itersize = 20_000
            cursor.execute(query)
            batch = []
            for subject, rows in groupby(cursor, lambda row: row[0]):
                batch.append((subject, [row[1:] for row in rows]))
                if len(batch) == _SUBJECTS_AT_ONCE:
                    yield batch
                    batch = []
            if batch:
                yield batch

    def _ordered(
        self,
        champion: Trees,
        knowledge: Knowledge,
        subjects: list[tuple[Any, list[tuple[Any, ...]]]],
    ) -> Iterator[pa.RecordBatch]:
        assert self._known
        items = knowledge.items
        places_of = {name: place for place, name in enumerate(items.names)}
        rows = [(place, *row[1:4]) for place, (_, of) in enumerate(subjects) for row in of]
        # The last row of a subject says how it is alike now.
        alike = np.array([self._known.codes(of[-1][4:]) for _, of in subjects], np.int64)
        alike = alike.reshape(len(subjects), len(self._model.alike))
        places = np.array([row[0] for row in rows], np.int64)
        events = Events(
            places,
            np.array([places_of[row[1]] for row in rows], np.int64),
            np.zeros(len(rows), np.int64),
            np.array([row[2] for row in rows], np.float64),
            np.array([row[3] for row in rows], np.float64),
            alike[places],
        )
        features = knowledge.features(events, places, alike)
        values = champion.values(features.reshape(-1, features.shape[2])).reshape(
            features.shape[:2]
        )
        order = np.argsort(-values, axis=1, kind="stable")[:, : self._model.places]
        low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
        shares = (values - low) / np.maximum(high - low, 1e-9)
        reasons = self._reasons(features)
        yield pa.RecordBatch.from_pylist(
            [
                {
                    self._model.subject: subject,
                    "place": number,
                    "item": items.names[item],
                    "score": Decimal(f"{shares[place, item]:.4f}"),
                    "reason": reasons[place][item],
                    "model_version": self._version,
                    "data_position": of[-1][0],
                }
                for place, (subject, of) in enumerate(subjects)
                for number, item in enumerate(order[place].tolist(), start=1)
            ],
            schema=self.schema,
        )

    def _reasons(self, features: Numbers) -> list[list[str | None]]:
        """What speaks most for each item: where it stands out most among the subject's items."""
        assert self._known
        columns = self._known.items.columns
        told = [place for place, name in enumerate(columns) if name in self._model.reasons]
        texts = np.array([None, *(self._model.reasons[columns[place]] for place in told)], object)
        some = features[:, :, told]
        spread = features.std(axis=(0, 1))[told]
        above = (some - some.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1.0)
        best = np.where(above.max(axis=2) >= _WORTH_TELLING, above.argmax(axis=2) + 1, 0)
        found: list[list[str | None]] = texts[best].tolist()
        return found


def _known(session: psycopg.Connection, model: Ranker, *, is_over: bool) -> Known:
    """The events of the last months, of all subjects or of a share of them. `is_over`: without
    those of the last month, where something may still happen.
    """
    wanted = _recent(model)
    if is_over:
        wanted += sql.SQL(" AND {month} < (SELECT max({month}) FROM {features})").format(
            month=sql.Identifier(model.month), features=tables.features(model)
        )
    listed = session.execute(
        sql.SQL(
            "SELECT {item}{traits} FROM {features} WHERE {only} GROUP BY {item} ORDER BY 1"
        ).format(
            item=sql.Identifier(model.item),
            traits=sql.Composed(
                [sql.SQL(", max({}::text)").format(sql.Identifier(each)) for each in model.traits]
            ),
            features=tables.features(model),
            only=_only(model),
        )
    ).fetchall()
    [count] = session.execute(
        sql.SQL("SELECT count(*) FROM {} WHERE {}").format(tables.features(model), wanted)
    ).fetchone() or (0,)
    rows = session.execute(
        sql.SQL(
            "SELECT number, {item}, extract(year FROM {month})::int * 12"
            " + extract(month FROM {month})::int - 1, {shown}, {taken}{alike} FROM {features}"
            # A hash and not the subject itself: that may be a text, and be given out by tens.
            " CROSS JOIN LATERAL (SELECT hashtextextended({subject}::text, 0) AS number) AS hash"
            " WHERE {wanted} AND number % {share} = 0 ORDER BY 1, 3, 2"
        ).format(
            item=sql.Identifier(model.item),
            month=sql.Identifier(model.month),
            shown=sql.Identifier(model.shown),
            taken=sql.Identifier(model.taken),
            alike=sql.Composed(
                [sql.SQL(", {}::text").format(sql.Identifier(each)) for each in model.alike]
            ),
            features=tables.features(model),
            subject=sql.Identifier(model.subject),
            wanted=wanted,
            share=sql.Literal(-(-count // _MOST_ROWS) or 1),
        )
    ).fetchall()
    return Known.of(model, listed, rows)


def _only(model: Ranker) -> sql.Composed:
    column, value = model.only
    return sql.SQL("{} = {}").format(sql.Identifier(column), sql.Literal(value))


def _recent(model: Ranker) -> sql.Composed:
    """The rows of the ranker that count."""
    return sql.SQL("{only} AND {month} > (SELECT max({month}) FROM {features}) - {since}").format(
        only=_only(model),
        month=sql.Identifier(model.month),
        features=tables.features(model),
        since=sql.SQL(f"interval '{_MONTHS} months'"),
    )


def _month(number: int) -> str:
    return f"{number // 12}-{number % 12 + 1:02}"


def _percent(of: Interval) -> str:
    return f"{of.value:.1%} ({of.low:.1%} to {of.high:.1%})"

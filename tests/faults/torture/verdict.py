"""Do source, raw, lake, history and quarantine agree with the model, and with each other? Each
function yields what does not.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet as pq

from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion.proof.verify import compare
from softcart_assets.ingestion.sinks.ods.rebuild import check
from softcart_assets.lines.model import RunningTotal, Source
from tests.faults.torture.lakes import Lakes
from tests.faults.torture.model import Key, Model, Row, Version, canonical_row, history_error
from tests.faults.torture.workload import ALTERED, KNOWN, LEDGERS, SHARED, TRAIL, UNFIT, Shape

TYPES = {
    "ints": "id integer, n integer, s text",
    "pairs": "region text, nr bigint, amount numeric(12,2)",
    "codes": "code text, s text",
    "everything": "id numeric(20,0), bits bigint, exact numeric(30,10), single double precision, "
    "twice double precision, day date,"
    " moment timestamp without time zone, instant timestamp with time zone, span interval, y "
    "smallint, fixed bytea, raw bytea,"
    " picture bytea, body text, size text, tags text, tiny smallint",
}
"""What the columns of the known tables must be in raw."""
MOST_TOLD = 4
"""Of each kind of difference of a table, so many are told."""


def some(table: str, what: str, differing: Iterable[Any]) -> Iterator[str]:
    """A problem for the first few of what differs, and how many there are."""
    found = list(differing)
    yield from (f"{table}: {what}: {each}" for each in found[:MOST_TOLD])
    if len(found) > MOST_TOLD:
        yield f"{table}: {what}: {len(found)} in all"


class Verdict:
    """What the databases hold, read directly, after all has come to rest."""

    def __init__(
        self,
        model: Model,
        mysql: MySQLConnection,
        postgres: PostgresConnection,
        lake: Path,
        source: Source,
    ) -> None:
        self.model, self.mysql, self.postgres, self.lake, self.source = (
            model,
            mysql,
            postgres,
            lake,
            source,
        )
        declared = {table.name for table in source.tables}
        self.known = [shape for shape in KNOWN if shape.name in declared]

    def problems(self, first_load: tuple[float, float], resnapshotted: set[str]) -> Iterator[str]:
        """Everything that does not agree; `resnapshotted` are tables whose history may have missed
        versions.
        """
        # Of what was done to the shared rows, and in what order, the source itself has the record.
        self.model.versions[SHARED.name] = self._trail()
        with self.postgres.connect() as session:
            self.session = session
            for shape in self.known:
                yield from self._source(shape, self.source_rows(shape.name))
                yield from self._types(shape)
                is_captured = self.source.table(shape.name).strategy == "cdc"
                every = is_captured and shape.name not in resnapshotted
                yield from self._history(shape, first_load, every_version=every)
            for table in self.source.tables:
                yield from self._raw(table.name, table.key, self.source_rows(table.name))
                if table.history:
                    yield from self._newest(table.name, table.key)
                if table.key or table.strategy == "cdc":
                    yield from self.replayed(table.name, table.key)
            yield from self._quarantine()
            if total := ledger_total(session, self.source):
                yield f"the ledgers' sum is {total}"
            if torn := torn_rows(session, self.source):
                yield f"{torn} shared rows are not what the trail says"
            yield from self._files()
        yield from wrong_totals(self.postgres, self.source.totals, self.source)

    def statements(self, *, all_are_stated: bool) -> Iterator[str]:
        """Raw against what the source states of it, as counts and checksums."""
        for table in self.source.tables:
            found = compare(self.source, self.postgres, table.name)
            if not found.is_equal and (found.is_stated or all_are_stated):
                yield str(found)

    def lake_tables(self, lakes: Lakes) -> Iterator[str]:
        """The rows that Spark reads in the lake's tables are those of raw."""
        with self.postgres.connect() as session:
            self.session = session
            for table in self.source.tables:
                if table.name == ALTERED:  # the lake may refuse it
                    continue
                raw = self._without_own(table.name)
                names = [name for name in (raw[0] if raw else {}) if name != "_deleted"]
                found = [
                    _from_lake(row, names)
                    for row in lakes.rows(self.source, table.name, self.lake.as_uri())
                ]
                if not names:
                    yield from some(table.name, "Spark still has", found)
                    continue
                if table.key:
                    here, there = (_by_key(rows, table.key) for rows in (found, raw))
                    yield from _unlike("Spark", table.name, names, here, there)
                else:
                    counted, held = _counted(found, names), _counted(raw, names)
                    yield from some(table.name, "only Spark has", (counted - held).items())
                    yield from some(table.name, "Spark lacks", (held - counted).items())

    def _trail(self) -> dict[Key, list[Version]]:
        versions: dict[Key, list[Version]] = defaultdict(list)
        for row in sorted(self.source_rows(TRAIL), key=lambda row: row["seq"]):
            values = {name: row[name] for name in SHARED.names}
            versions[row["id"],].append(
                # When it was committed, nobody has noted: at any time after this.
                Version(values, bool(row["gone"]), began_at=row["began"], ended_at=float("inf"))
            )
        return versions

    def source_rows(self, table: str) -> list[Row]:
        """All rows at the source."""
        # MariaDB prints no more than six digits of a FLOAT.
        more = ", CAST(single AS DOUBLE) AS single" if table == "everything" else ""
        with closing(self.mysql.connect()) as session, session.cursor() as cursor:
            cursor.execute(f"SELECT *{more} FROM {table}")
            names = [column[0] for column in cursor.description]
            return [
                canonical_row(names, values) for values in cursor.fetchall()
            ]  # the later `single` wins

    def _target_rows(self, query: str) -> list[Row]:
        cursor = self.session.execute(query.encode())
        names = [column.name for column in cursor.description or ()]
        return [canonical_row(names, values) for values in cursor.fetchall()]

    def _exists(self, relation: str) -> bool:
        row = self.session.execute("SELECT to_regclass(%s) IS NOT NULL", (relation,)).fetchone()
        return bool(row and row[0])

    def _source(self, shape: Shape, rows: list[Row]) -> Iterator[str]:
        """The source against the model: a fault of the torture itself, were it not for this."""
        unfit = self.model.unfit(shape.name)
        found = _by_key(rows, shape.key)
        expected = self.model.live(shape.name)
        assert len(found) == len(rows)
        yield from some(
            shape.name, "the source has, the model has not", found.keys() - expected.keys()
        )
        yield from some(
            shape.name, "the model has, the source has not", expected.keys() - found.keys()
        )
        for key in found.keys() & expected.keys():
            names = [name for name in shape.names if not (key in unfit and name in UNFIT)]
            if differing := {
                n: (found[key][n], expected[key][n])
                for n in names
                if found[key][n] != expected[key][n]
            }:
                yield f"{shape.name} {key}: source and model differ: {differing}"

    def _raw(self, table: str, key: tuple[str, ...], at_source: list[Row]) -> Iterator[str]:
        """Raw's current rows against the source's, row by row, in the columns that the source has
        now.
        """
        if not self._exists(f"{self.source.schema}.{table}"):
            yield f"{table}: raw does not exist"
            return
        raw = self._target_rows(f"SELECT * FROM {self.source.schema}.{table} WHERE NOT _deleted")
        names = list(at_source[0]) if at_source else []
        if raw and (lacking := [name for name in names if name not in raw[0]]):
            yield f"{table}: raw lacks {lacking}"
            return
        if not key:
            differing = _counted(at_source, names), _counted(raw, names)
            if not at_source:
                differing = Counter(), Counter({(): len(raw)}) if raw else Counter()
            yield from some(table, "only the source has", (differing[0] - differing[1]).items())
            yield from some(table, "only raw has", (differing[1] - differing[0]).items())
            return
        here, there = _by_key(at_source, key), _by_key(raw, key)
        unfit = self.model.unfit(table) if table in self.model.versions else set()
        yield from some(table, "raw lacks", here.keys() - there.keys() - unfit)
        yield from some(table, "raw still has", there.keys() - here.keys())
        yield from some(
            table,
            "(source, raw)",
            (
                (k, {n: (here[k][n], there[k][n]) for n in names if here[k][n] != there[k][n]})
                for k in (here.keys() & there.keys()) - unfit
                if any(here[k][n] != there[k][n] for n in names)
            ),
        )

    def _types(self, shape: Shape) -> Iterator[str]:
        rows = self.session.execute(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
            " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
            (f"{self.source.schema}.{shape.name}",),
        ).fetchall()
        found: dict[str, str] = dict(rows)
        for each in TYPES.get(shape.name, "").split(", ") if shape.name in TYPES else ():
            name, _, type_ = each.strip().partition(" ")
            if found.get(name) != type_:
                yield f"{shape.name}.{name} is {found.get(name)} in raw, not {type_}"

    def _history(
        self, shape: Shape, first_load: tuple[float, float], *, every_version: bool
    ) -> Iterator[str]:
        """The versions of each key against those of the model."""
        names = [*shape.names, "_deleted"]
        found: dict[Key, list[tuple[bool, Row]]] = defaultdict(list)
        history = f"{self.source.schema}.{shape.name}_history"
        for row in self._target_rows(f"SELECT {', '.join(names)} FROM {history} ORDER BY _version"):
            key = tuple(row[name] for name in shape.key)
            found[key].append((row.pop("_deleted"), row))
        wrong = []
        for key in self.model.versions[shape.name].keys() | found.keys():
            versions = self.model.versions[shape.name].get(key, [])
            if error := history_error(
                found.get(key, []), versions, first_load, every_version=every_version
            ):
                wrong.append(f"{key}: {error}")
        yield from some(shape.name, "history", wrong)

    def _newest(self, table: str, key: tuple[str, ...]) -> Iterator[str]:
        """The newest version of each key in the history is raw's row, deleted ones included."""
        columns = self.session.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND "
            "table_name = %s"
            " AND column_name NOT IN ('_loaded_at', '_position', '_version')",
            (self.source.schema, table),
        ).fetchall()
        names = ", ".join(name for (name,) in columns)
        keys = ", ".join(key)
        newest = (
            f"SELECT DISTINCT ON ({keys}) {names} FROM {self.source.schema}.{table}_history "
            f"ORDER BY {keys}, _version DESC"
        )
        for one, other, what in (
            (newest, f"SELECT {names} FROM {self.source.schema}.{table}", "only the history has"),
            (f"SELECT {names} FROM {self.source.schema}.{table}", newest, "only raw has"),
        ):
            yield from some(table, what, self._differing(one, other, table))

    def _differing(self, one: str, other: str, table: str) -> list[Row]:
        casts = self._target_rows
        # jsonb and all the other types here can be compared by the server.
        try:
            return casts(f"({one}) EXCEPT ({other})")
        except psycopg.Error as error:
            return [{"error": f"{table}: {error}"}]

    def _listed(self, table: str) -> list[str]:
        rows = self.session.execute(
            "SELECT path FROM ingestion.lake_files WHERE source = %s AND table_name = %s "
            "ORDER BY length(path), path",
            (self.source.name, table),
        ).fetchall()
        return [path for (path,) in rows]

    def replayed(self, table: str, key: tuple[str, ...]) -> Iterator[str]:
        """The change files of a table, replayed in order, give raw's current rows."""
        changes: list[Row] = []
        for path in self._listed(table):
            if not (self.lake / path).exists():
                yield f"{table}: listed file {path} does not exist"
                return
            changes += pq.ParquetFile(self.lake / path).read().to_pylist()
        # Stable, so that rows of one load stay in their order.
        changes.sort(key=lambda row: row["_version"])
        raw = self._without_own(table)
        names = [name for name in (raw[0] if raw else {}) if name != "_deleted"]
        if not key:
            # A load of the whole table names no operation, and counts instead of all that came
            # before.
            held: Counter[Any] = Counter()
            load = None
            for row in changes:
                if row.get("_operation") is None and row["_load_id"] != load:
                    held, load = Counter(), row["_load_id"]
                if row.get("_operation") is not None or not row["_deleted"]:
                    held[_hashable(_from_lake(row, names))] += -1 if row["_deleted"] else 1
            held = +held
            found = _counted(raw, names)
            yield from some(table, "only the lake has", (held - found).items())
            yield from some(table, "only raw has, not the lake", (found - held).items())
            return
        current: dict[Key, Row] = {}
        for row in changes:
            change = _from_lake(row, names or list(key))
            identity = tuple(change[name] for name in key)
            if row["_deleted"]:
                current.pop(identity, None)
            else:
                current[identity] = change
        yield from _unlike("the lake's files", table, names, current, _by_key(raw, key))

    def _without_own(self, table: str) -> list[Row]:
        """Raw's current rows without the engine's own columns."""
        own = {"_loaded_at", "_position", "_version"}
        query = f"SELECT * FROM {self.source.schema}.{table} WHERE NOT _deleted"
        return [{n: v for n, v in row.items() if n not in own} for row in self._target_rows(query)]

    def _files(self) -> Iterator[str]:
        """No file lies in the lake that is not listed."""
        listed = {
            path
            for (path,) in self.session.execute("SELECT path FROM ingestion.lake_files").fetchall()
        }
        found = {
            str(path.relative_to(self.lake)) for path in (self.lake / "changes").rglob("*.parquet")
        }
        yield from some("lake", "not listed", found - listed)
        yield from some("lake", "listed, not there", listed - found)

    def _quarantine(self) -> Iterator[str]:
        """The open entries are the rows at the source that cannot be carried, as they are now."""
        rows = self.session.execute(
            "SELECT table_name, key, row FROM ingestion.quarantine WHERE closed_at IS NULL "
            "AND source = %s",
            (self.source.name,),
        ).fetchall()
        for shape in self.known:
            found = {
                tuple(map(str, key)): row
                for name, key, row in rows
                if name == shape.name and key is not None
            }
            live = self.model.live(shape.name)
            expected = {tuple(map(str, key)): live[key] for key in self.model.unfit(shape.name)}
            yield from some(shape.name, "not in quarantine", expected.keys() - found.keys())
            yield from some(shape.name, "still in quarantine", found.keys() - expected.keys())
            for key in expected.keys() & found.keys():
                if found[key]["tick"] != str(expected[key]["tick"]):
                    yield f"{shape.name} {key}: another version is in quarantine: {found[key]}"
        if others := [row for row in rows if row[0] not in {s.name for s in self.known}]:
            yield f"in quarantine for no reason: {others[:MOST_TOLD]}"


def ledger_total(session: psycopg.Connection, source: Source) -> int:
    """The sum of both ledgers in raw at one moment."""
    sums = " + ".join(
        f"(SELECT coalesce(sum(amount), 0) FROM {source.schema}.{s.name} WHERE NOT _deleted)"
        for s in LEDGERS
    )
    row = session.execute(f"SELECT {sums}".encode()).fetchone()
    assert row
    return int(row[0])


def wrong_totals(
    postgres: PostgresConnection, totals: Iterable[RunningTotal], source: Source
) -> Iterator[str]:
    """The totals that are not what raw gives at the same moment."""
    for total in totals:
        found = check(postgres, source, total)
        if found.wrong:
            yield f"the total {found}"


def torn_rows(session: psycopg.Connection, source: Source) -> int:
    """How many of the shared rows in raw are not what raw's trail says at the same moment."""
    row = session.execute(
        f"SELECT count(*) FROM (SELECT DISTINCT ON (id) id, gone, tick "
        f"FROM {source.schema}.{TRAIL} ORDER BY id, seq DESC) trail "
        f"FULL JOIN (SELECT id, tick FROM {source.schema}.{SHARED.name} WHERE NOT _deleted) shared "
        "USING (id) WHERE shared.tick IS DISTINCT FROM "
        "CASE WHEN trail.gone = 0 THEN trail.tick END".encode()
    ).fetchone()
    assert row
    return int(row[0])


def _unlike(
    who: str, table: str, names: Sequence[str], found: dict[Key, Row], raw: dict[Key, Row]
) -> Iterator[str]:
    """In what rows that somebody else has are not raw's."""
    yield from some(table, f"{who} lacks", raw.keys() - found.keys())
    yield from some(table, f"{who} still has", found.keys() - raw.keys())
    yield from some(
        table,
        f"({who}, raw)",
        (
            (key, {n: (found[key][n], raw[key][n]) for n in names if found[key][n] != raw[key][n]})
            for key in found.keys() & raw.keys()
            if any(found[key][n] != raw[key][n] for n in names)
        ),
    )


def _by_key(rows: Iterable[Row], key: tuple[str, ...]) -> dict[Key, Row]:
    return {tuple(row[name] for name in key): row for row in rows}


def _from_lake(row: Row, names: Iterable[str]) -> Row:
    """A row of a change file as raw gives it; columns that came later are NULL."""
    found = canonical_row(list(names), [row.get(name) for name in names])
    if found.get("span") is not None:
        found["span"] = timedelta(microseconds=found["span"])
    return found


def _hashable(row: Row) -> tuple[Any, ...]:
    return tuple(sorted(row.items()))


def _counted(rows: Iterable[Row], names: Iterable[str]) -> Counter[Any]:
    chosen = list(names)
    return Counter(_hashable({name: row[name] for name in chosen}) for row in rows)

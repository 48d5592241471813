"""Lists every store that holds a person, with the number of rows.

What is looked at follows from the declarations and from the lineage of columns. A store that cannot
be looked at is listed too, and says why: it must not pass for one without the person.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import psycopg
from psycopg import sql
from pyarrow import fs

from softcart_assets.assembly import Lines
from softcart_assets.ingestion.connectors import connector
from softcart_assets.ingestion.quarantine import QuarantinedRow, list_quarantine
from softcart_assets.lake import LakeTable, committed_files, lake_table
from softcart_assets.lines.model import Source, Table
from softcart_assets.privacy.handles import EMAIL, PHONE, personal, undecided
from softcart_assets.privacy.made import Lineage, Made, Relation, Tracing
from softcart_assets.privacy.parquet import Undecided, count_rows, files_below, is_whole
from softcart_assets.privacy.person import Person, email_form, phone_form
from softcart_assets.privacy.places import Places
from softcart_assets.serving import desk

_MADE_IN_STAGING = ("warehouse", "aggregates", "ml")
_TOTALS = ("ods", "ods_spark", "ods_topics")
"""The schemas with running totals. Spark keeps the same ones as the loads do, in two of its own."""
_IDENTITIES = {
    **dict.fromkeys(("people", "records", "keys"), (("line_of_business", "customer_id"),)),
    **dict.fromkeys(
        ("pairs", "decisions", "_obeyed"), (("left_line", "left_id"), ("right_line", "right_id"))
    ),
}
"""The tables about who is who, each with the columns that name a customer."""
_LONG_ENOUGH = 6
"""Shorter values are in many lines of files by chance."""


@dataclass(frozen=True)
class Held:
    """What a store holds of a person.

    `rows`: those of the person. None: they are not counted, and `note` says why. `mentions`: rows
    of others that name the person.
    """

    layer: str
    store: str
    rows: int | None
    mentions: int = 0
    note: str = ""
    is_unknown: bool = False
    """Whether it should have been looked at and could not."""


class Search:
    """Looks for one person everywhere.

    `lineage`: that of all tables and files that are made.
    """

    def __init__(
        self,
        session: psycopg.Connection,
        lines: Lines,
        places: Places,
        person: Person,
        lineage: Lineage,
    ) -> None:
        self._session, self._lines, self._places = session, lines, places
        self._person = person
        self._tracing = Tracing(lines, lineage)

    @cached_property
    def _made(self) -> Mapping[Relation, Made]:
        return self._tracing.made()

    def everywhere(self) -> Iterator[Held]:
        """What every store holds, in the order in which data flow. Stores without are left out."""
        for each in self._all():
            if each.rows is None or each.rows or each.mentions:
                yield each

    def _all(self) -> Iterator[Held]:
        yield from self._sources()
        for found in self._copies.values():
            yield from found
        yield self._quarantine()
        yield from self._duplicates()
        yield from self._lake()
        yield from self._streams()
        yield from self._totals()
        yield from self._identities()
        yield from self._in_staging()
        yield from self._in_production()
        yield from self._extracts()
        yield from self._look_ups()
        yield from self._events()

    # The sources and what is copied from them.

    def _sources(self) -> Iterator[Held]:
        for line in self._lines:
            for source in line.sources:
                if tables := self._tables_with_rows(source):
                    yield Held(
                        "source",
                        f"{source.name} ({connector(source.kind).title})",
                        None,
                        note=f"Ask {line.owner_of(source)} to change it. "
                        f"Tables: {', '.join(tables)}.",
                    )

    def _tables_with_rows(self, source: Source) -> list[str]:
        return [
            table.name
            for table in source.tables
            if any(each.rows for each in self._copies[source.name, table.name])
        ]

    @cached_property
    def _copies(self) -> Mapping[tuple[str, str], Sequence[Held]]:
        """What is in the raw tables, by source and table."""
        return {
            (source.name, table.name): list(self._raw(source, table))
            for source, table in self._lines.tables()
        }

    def _raw(self, source: Source, table: Table) -> Iterator[Held]:
        if personal(table) and not table.person:
            note = "The table does not say how a person is found in it. Declare `person`."
            store = f"{source.schema}.{table.name}"
            yield Held("raw", store, None, note=note, is_unknown=True)
            return
        for relation in (table.name, f"{table.name}_history"):
            name = sql.Identifier(source.schema, relation)
            yield Held(
                "raw",
                f"{source.schema}.{relation}",
                self._count(name, self._person.rows_of(source, table, relation)),
                self._count(name, self._person.mentions_in(source, table, relation)),
            )

    def _count(
        self,
        relation: sql.Composable,
        condition: sql.Composable | None,
        session: psycopg.Connection | None = None,
    ) -> int:
        if condition is None:
            return 0
        row = (
            (session or self._session)
            .execute(sql.SQL("SELECT count(*) FROM {} WHERE {}").format(relation, condition))
            .fetchone()
        )
        return int(row[0]) if row else 0

    def _quarantine(self) -> Held:
        entries = [
            *list_quarantine(self._places.staging),
            *list_quarantine(self._places.staging, closed=True),
        ]
        found = sum(self._is_in(each) for each in entries if not each.erased_at)
        return Held("quarantine", "ingestion.quarantine", found)

    def _is_in(self, entry: QuarantinedRow) -> bool:
        """Whether a row in quarantine is the person's, or may be."""
        known = self._tracing.handles.tables.get((entry.source, entry.table_name))
        if not known:
            return False
        source, table = known
        row: dict[str, object] = dict(entry.row)
        with suppress(ValueError):
            # A document is kept as a whole.
            document = json.loads(entry.row.get("document") or "null")
            row |= document if isinstance(document, dict) else {}
        handles = self._tracing.handles
        told = handles.of(source.name, table) | handles.mentioned(source.name, table)
        for column, handle in told.items():
            if column in row and self._is_mine(handle, row[column]):
                return True
        line = entry.row.get("line") if "_line" in entry.row else None
        # It has no columns. Rather one too many.
        return line is not None and any(
            value in line
            for handle in told.values()
            for value in self._person.values(handle)
            if len(value) >= _LONG_ENOUGH
        )

    def _is_mine(self, handle: str, value: object) -> bool:
        if value is None:
            return False
        form = {EMAIL: email_form, PHONE: phone_form}.get(handle, str)
        return form(str(value)) in self._person.values(handle)

    def _duplicates(self) -> Iterator[Held]:
        if not self._exists("ingestion", "file_duplicates"):
            return
        of_tables = (
            "SELECT DISTINCT source, table_name FROM ingestion.file_duplicates ORDER BY 1, 2"
        )
        for source, table in self._session.execute(of_tables).fetchall():
            if not (known := self._tracing.handles.tables.get((source, table))):
                continue
            told = self._tracing.handles.of(source, known[1])
            named = self._tracing.handles.mentioned(source, known[1])
            values = [
                sql.SQL("f.row ->> {} AS {}").format(sql.Literal(column), sql.Identifier(column))
                for column in told | named
            ]
            records = sql.SQL(
                "(SELECT {} FROM ingestion.file_duplicates f"
                " WHERE (f.source, f.table_name) = ({}, {})) AS records"
            ).format(sql.SQL(", ").join(values), sql.Literal(source), sql.Literal(table))
            rows, mentions = (
                self._person.matching({name: [each] for name, each in of.items()}, of)
                for of in (told, named)
            )
            yield Held(
                "duplicates",
                f"ingestion.file_duplicates of {source}.{table}",
                self._count(records, rows),
                self._count(records, mentions),
            )

    def _lake(self) -> Iterator[Held]:
        handles = self._tracing.handles
        # Other files are of loads that still run, or were killed.
        files = {
            each.name: committed_files(self._session, each.name) for each in self._lines.sources
        }
        for source, table in self._lines.tables():
            told, named = handles.of(source.name, table), handles.mentioned(source.name, table)
            found_by = {column: [handle] for column, handle in told.items()}
            mentions = {column: [handle] for column, handle in named.items()}
            if not found_by:
                continue
            lake = lake_table(source, table, self._places.lake_uri)
            changes = [file.path for file in files[source.name].get(table.name, ())]
            for layer, paths in (("changes", changes), ("lake", self._files_of(lake))):
                yield Held(
                    layer,
                    lake.full_name,
                    self._in_files(lake.store, paths, found_by),
                    self._in_files(lake.store, paths, mentions),
                )
        for line in self._lines:
            by_month: dict[str, set[str]] = {}
            for job in line.jobs:
                if not (made := self._made.get(("aggregates", job.name))):
                    continue  # its table in the warehouse says so
                for column, leads_to in made.found_by.items():
                    by_month.setdefault(column, set()).update(leads_to)
                yield self._aggregate("aggregates", job.name, made.found_by)
            store = LakeTable(self._places.lake_uri, "aggregates_by_month", "").store
            for name in _folders(store, "warehouse/aggregates_by_month.db"):
                # Results that the jobs of a line keep are named after it.
                if name.startswith(f"{line.name}_"):
                    yield self._aggregate("aggregates_by_month", name, by_month)

    def _aggregate(self, database: str, name: str, found_by: Mapping[str, Collection[str]]) -> Held:
        table = LakeTable(self._places.lake_uri, database, name)
        try:
            rows = self._in_files(table.store, self._files_of(table), found_by)
        except Undecided as error:
            return Held("lake", table.full_name, None, note=str(error), is_unknown=True)
        return Held("lake", table.full_name, rows)

    def _files_of(self, table: LakeTable) -> list[str]:
        """The files with the rows of a lake table, and with those of the refresh before."""
        state = table.state()
        current = {each.folder for each in state.partitions.values()} if state else set()
        return [
            path
            for path in files_below(table.store, table.folder)
            if path.rpartition("/")[0] in current or is_whole(table.store, path)
        ]

    def _in_files(
        self, store: fs.FileSystem, paths: Iterable[str], found_by: Mapping[str, Collection[str]]
    ) -> int:
        if not found_by:
            return 0
        return sum(count_rows(store, path, found_by, self._person.values) for path in paths)

    def _streams(self) -> Iterator[Held]:
        """What streams keep of the changes of a source that has rows of the person."""
        store, topics = LakeTable(self._places.lake_uri, "", "").store, self._places.topics
        for source in self._lines.sources:
            if not (tables := self._tables_with_rows(source)):
                continue
            folder = f"streams/totals/{source.name}"
            if {each.rpartition("-")[0] for each in _folders(store, folder)} & {*tables}:
                note = "Spark remembers the rows that it counts. They are those of the changes."
                yield Held("lake", folder, None, note=note)
            if topics is not None and connector(source.kind).has_log:
                note = (
                    "If a stream writes to Kafka, its topics keep rows as long as the broker does."
                )
                yield Held("kafka", f"{topics}{source.name}*", None, note=note)

    def _totals(self) -> Iterator[Held]:
        handles = self._tracing.handles
        for source in self._lines.sources:
            for total in source.totals:
                table = source.table(total.table)
                told = handles.of(source.name, table) | handles.own(source.name, table)
                if total.key not in told:
                    continue
                condition = self._person.matching({total.key: [told[total.key]]}, [total.key])
                for schema in _TOTALS:
                    if self._exists(schema, total.name):
                        name = sql.Identifier(schema, total.name)
                        yield Held("ods", f"{schema}.{total.name}", self._count(name, condition))

    # What is made from the copies.

    def _identities(self) -> Iterator[Held]:
        for table, pairs in _IDENTITIES.items():
            if self._exists("identities", table):
                customers = sql.SQL(", ").join(
                    sql.SQL("({}, {})").format(sql.Literal(line), sql.Literal(number))
                    for line, number in self._person.customers
                )
                named = [
                    sql.SQL("({}, {}::text) IN ({})").format(
                        sql.Identifier(line), sql.Identifier(number), customers
                    )
                    for line, number in pairs
                ]
                condition = sql.SQL(" OR ").join(named) if self._person.customers else None
                name = sql.Identifier("identities", table)
                yield Held("identities", f"identities.{table}", self._count(name, condition))

    def _exists(self, schema: str, table: str) -> bool:
        name = sql.Identifier(schema, table).as_string()
        row = self._session.execute("SELECT to_regclass(%s) IS NOT NULL", [name]).fetchone()
        return bool(row and row[0])

    def _in_staging(self) -> Iterator[Held]:
        for schema, table in tables_of(self._session, _MADE_IN_STAGING):
            yield from self._of_made(schema, table, (schema, table), self._session)
        changes = "publication_changes"
        for schema, table in tables_of(self._session, (changes,)):
            made = self._made.get(("production", table))
            columns = _columns(self._session, schema, table)
            name = sql.Identifier(schema, table)
            if made and undecided(made.found_by, columns):
                note = made.wrong(columns)
                yield Held("publication", f"{schema}.{table}", None, note=note, is_unknown=True)
            # The notes have nothing but keys. The key of a dimension is a hash.
            elif made and (condition := self._person.matching(made.found_by, columns)):
                yield Held("publication", f"{schema}.{table}", self._count(name, condition))

    def _of_made(
        self, schema: str, table: str, relation: Relation, session: psycopg.Connection
    ) -> Iterator[Held]:
        layer, store = relation[0], f"{schema}.{table}"
        made = self._made.get(relation)
        if made is None:
            # Nobody knows what is in it.
            note = "No build has recorded where its columns come from. Materialise it."
            yield Held(layer, store, None, note=note, is_unknown=True)
            return
        columns = _columns(session, schema, table)
        if wrong := made.wrong(columns):
            yield Held(layer, store, None, note=wrong, is_unknown=True)
            return
        condition = self._person.matching(made.found_by, columns)
        mentions = self._person.matching(made.mentions, columns)
        name = sql.Identifier(schema, table)
        yield Held(
            layer,
            store,
            self._count(name, condition, session),
            self._count(name, mentions, session),
        )

    def _in_production(self) -> Iterator[Held]:
        with self._places.production.connect() as session:
            for schema, table in tables_of(session, like="production_slot_%"):
                yield from self._of_made(schema, table, ("production", table), session)
        for target in self._places.targets:
            yield Held("target", target, None, note="It has what the slots of production have.")

    def _extracts(self) -> Iterator[Held]:
        folder = self._places.extracts
        if not folder.is_dir():
            return
        layers = ["extracts", *(source.reporting for source in self._lines.sources)]
        local = fs.LocalFileSystem()
        for path in files_below(local, str(folder)):
            name = Path(path).stem
            made = next(filter(None, (self._made.get((layer, name)) for layer in layers)), None)
            if made is None:
                note = "No run has recorded where its columns come from. Materialise it."
                yield Held("extracts", f"{name}.parquet", None, note=note, is_unknown=True)
            elif made.found_by:  # without a key, it has figures about many
                try:
                    rows = count_rows(local, path, made.found_by, self._person.values)
                except Undecided as error:
                    yield Held(
                        "extracts", f"{name}.parquet", None, note=str(error), is_unknown=True
                    )
                else:
                    yield Held("extracts", f"{name}.parquet, {name}.csv", rows)

    # What the platform notes about its own work.

    def _look_ups(self) -> Iterator[Held]:
        with suppress(desk.NoDesk):
            handle = desk.find([line.name for line in self._lines]).subject
            if self._exists("serving", "look_ups"):
                condition = sql.SQL("subjects && {}::bigint[]").format(
                    sql.Literal(self._person.values(handle))
                )
                rows = self._count(sql.Identifier("serving", "look_ups"), condition)
                yield Held("audit log", "serving.look_ups", rows)

    def _events(self) -> Iterator[Held]:
        texts = [value for handle in (EMAIL, PHONE) for value in self._person.values(handle)]
        with self._places.dagster.connect() as session:
            row = session.execute(
                "SELECT count(*) FROM event_logs WHERE EXISTS"
                " (SELECT FROM unnest(%s::text[]) AS t WHERE strpos(lower(event), t) > 0)",
                [texts],
            ).fetchone()
        yield Held("dagster", "event_logs", int(row[0]) if row else 0)


def tables_of(
    session: psycopg.Connection, schemas: Iterable[str] = (), *, like: str = ""
) -> list[Relation]:
    """The tables of schemas. Those of the platform's own bookkeeping begin with `_`."""
    return session.execute(
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE relkind = 'r' AND (n.nspname = ANY (%s) OR n.nspname LIKE %s)"
        " AND c.relname NOT LIKE '\\_%%' ORDER BY 1, 2",
        [list(schemas), like],
    ).fetchall()


def _columns(session: psycopg.Connection, schema: str, table: str) -> set[str]:
    rows = session.execute(
        "SELECT column_name FROM information_schema.columns"
        " WHERE (table_schema, table_name) = (%s, %s)",
        [schema, table],
    )
    return {name for (name,) in rows}


def _folders(store: fs.FileSystem, folder: str) -> list[str]:
    found = store.get_file_info(fs.FileSelector(folder, allow_not_found=True))
    return sorted(each.base_name for each in found if each.type == fs.FileType.Directory)

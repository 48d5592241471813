"""The slots of the production database, and the switch from one to the other.

People read the views of the schema `production`. The rows are in tables with two partitions,
*slots*. The single row of `production_meta.current` names the current slot, and a view shows the
rows of that slot. PostgreSQL looks the slot up once per query and does not execute the other
partition. A publication fills the other slot and then updates the row. Elsewhere, two such slots
are called blue and green.

So the switch is an ordinary row version. All tables switch at one moment. The switch is right for
every snapshot of every reader, at any isolation level, and it locks nothing that people read.

Simpler ways are wrong. After renaming tables or replacing views, a REPEATABLE READ transaction
would find the new table, but its older snapshot has no rows in it. After attaching partitions, a
query that was planned before would run without them.

A *pair* is a set of such tables: `production_pair_1` has the partitioned tables,
`production_slot_11` and `production_slot_12` have the partitions. If published tables are added or
removed, or get other columns, a publication makes a new pair. It replaces the views in the
transaction that switches. To readers with an older snapshot, the views still show the rows of the
old pair, with the new columns. A later publication drops the old pair when no such reader is left.

`reading` lets two roles read. To let another one: GRANT USAGE ON SCHEMA production and SELECT ON
ALL TABLES IN SCHEMA production. A view keeps its privileges when its columns change. A table that
is published for the first time gets the default privileges. They hold for the role that creates the
view, so FOR ROLE must name the publishing user: ALTER DEFAULT PRIVILEGES FOR ROLE <user> IN SCHEMA
production GRANT SELECT ON TABLES. PostgreSQL 13 or later is required.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from softcart_assets import views
from softcart_assets.migrations import migrate
from softcart_assets.publishing import contents
from softcart_assets.publishing.contents import Content, Rows

Columns = tuple[tuple[str, str], ...]
"""Each column's name and its type as PostgreSQL writes it."""

Shape = dict[str, Columns]
"""Table name → its columns."""

PATIENCE_SECONDS = 2.0
"""How long a publication tries to lock a table before it takes the slower way."""

DDL_PATIENCE_SECONDS = 60.0
"""How long a publication that must replace views waits for transactions that read them."""


VERSIONS_OF_HISTORY = 5
"""How many versions say what number of rows is usual.

Their median outvotes a mistake in two versions. If the memory were longer, a table that has grown
could fall back to its old size for a long time.
"""

_MIGRATIONS = Path(__file__).parent / "migrations"


class PublishError(RuntimeError):
    """A publication failed. Readers keep the version that they had."""


@dataclass(frozen=True)
class Current:
    """The published version, as `production_meta.current` records it.

    `switch_xid`: the transaction that switched to it. `row_counts`: rows per table.
    """

    version: int
    slot: int
    switch_xid: str
    row_counts: dict[str, int]


@dataclass(frozen=True)
class LiveLine:
    """The live part of a line of business: its publication and its tables."""

    version: int
    tables: tuple[str, ...]


@dataclass(frozen=True)
class Version:
    """A version that is ready for the switch. `lines`: the live part of each line afterwards.

    `filled`: the slots that have its rows, first the one to switch to.
    """

    number: int
    filled: tuple[int, ...]
    shape: Shape
    contents: Mapping[str, Content]
    lines: Mapping[str, LiveLine]

    @property
    def slot(self) -> int:
        """The slot to switch to."""
        return self.filled[0]

    @property
    def row_counts(self) -> dict[str, int]:
        """The rows per table."""
        return {name: content.rows.count for name, content in self.contents.items()}


def set_up(session: psycopg.Connection) -> None:
    """Upgrade the schema `production_meta` to this release, or create it."""
    migrate(session, "production_meta", _MIGRATIONS)


def read_current(session: psycopg.Connection) -> Current | None:
    """The published version, or None before the first."""
    row = session.execute(
        "SELECT version, slot, switch_xid::text, row_counts FROM production_meta.current"
    ).fetchone()
    return Current(*row) if row else None


def read_usual(session: psycopg.Connection) -> dict[str, int]:
    """The median of each table's rows in the last versions."""
    return dict(
        session.execute(
            """
            SELECT rows.key, percentile_disc(0.5) WITHIN GROUP (ORDER BY rows.value::bigint)
            FROM (
              SELECT row_counts FROM production_meta.versions ORDER BY version DESC LIMIT %s
            ) last, jsonb_each_text(last.row_counts) rows
            GROUP BY rows.key
            """,
            [VERSIONS_OF_HISTORY],
        ).fetchall()
    )


def read_lines(session: psycopg.Connection) -> dict[str, LiveLine]:
    """The live part of each line, without tables published before lines were recorded."""
    rows = session.execute("SELECT line, version, tables FROM production_meta.lines").fetchall()
    return {line: LiveLine(version, tuple(tables)) for line, version, tables in rows}


def pair_of(slot: int) -> int:
    """The pair that a slot belongs to."""
    return slot // 10


def slots_of(pair: int) -> tuple[int, int]:
    """The two slots of a pair."""
    return pair * 10 + 1, pair * 10 + 2


def slot_schema(slot: int) -> str:
    """The schema of a slot's tables."""
    return f"production_slot_{slot}"


def slot_table(slot: int, name: str) -> sql.Identifier:
    """A slot's table, for use in SQL."""
    return sql.Identifier(slot_schema(slot), name)


def pair_table(pair: int, name: str) -> sql.Identifier:
    """The partitioned table over a pair's slots, for use in SQL."""
    return sql.Identifier(f"production_pair_{pair}", name)


def view_name(name: str) -> str:
    """The view that people read, quoted."""
    return sql.Identifier("production", name).as_string()


def read_shapes(session: psycopg.Connection, schemas: str, kinds: str = "rpmv") -> dict[str, Shape]:
    """Schema → shape of its tables, for schemas whose whole name matches a regular expression.

    `kinds`: the kinds of relations, as in `pg_class.relkind`.
    """
    shapes: dict[str, Shape] = {}
    # `_slot` is ours. The tables in staging do not have it.
    for schema, name, columns, types in session.execute(
        """
        SELECT n.nspname, c.relname, array_agg(a.attname::text ORDER BY a.attnum),
               array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum)
        FROM pg_namespace n
        JOIN pg_class c ON c.relnamespace = n.oid AND c.relkind::text = ANY(%s)
        JOIN pg_attribute a
          ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> '_slot'
        WHERE n.nspname ~ %s
        GROUP BY n.nspname, c.relname
        """,
        [list(kinds), f"^({schemas})$"],
    ):
        shapes.setdefault(schema, {})[name] = tuple(zip(columns, types, strict=True))
    return shapes


def read_sizes(session: psycopg.Connection, schemas: Iterable[str]) -> dict[str, int]:
    """The bytes of every table of those schemas, by name."""
    return dict(
        session.execute(
            """
            SELECT c.relname, pg_table_size(c.oid)
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = ANY(%s) AND c.relkind IN ('r', 'm', 'v')
            """,
            [list(schemas)],
        ).fetchall()
    )


def read_pairs(session: psycopg.Connection) -> dict[int, Shape]:
    """Every pair that exists, with its shape."""
    shapes = read_shapes(session, "production_pair_[0-9]+")
    return {int(name.rpartition("_")[2]): shape for name, shape in shapes.items()}


def create_pair(session: psycopg.Connection, pair: int, shape: Shape) -> None:
    """Create a pair with empty tables."""
    with session.transaction():
        contents.forget(session, slots_of(pair))
        session.execute(
            sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(f"production_pair_{pair}"))
        )
        for slot in slots_of(pair):
            session.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(slot_schema(slot))))
        for name, columns in shape.items():
            create_table(session, pair, name, columns)


def create_table(session: psycopg.Connection, pair: int, name: str, columns: Columns) -> None:
    """Create an empty table in a pair."""
    definitions = [
        sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(kind)) for column, kind in columns
    ]
    session.execute(
        sql.SQL("CREATE TABLE {} ({}, _slot integer NOT NULL) PARTITION BY LIST (_slot)").format(
            pair_table(pair, name), sql.SQL(", ").join(definitions)
        )
    )
    for slot in slots_of(pair):
        session.execute(
            # Autovacuum could lock a table that a publication wants to truncate. A publication does
            # its work itself. The default lets COPY into the partition do without `_slot`.
            sql.SQL(
                "CREATE TABLE {} PARTITION OF {} (_slot DEFAULT {}) FOR VALUES IN ({}) "
                "WITH (autovacuum_enabled = false)"
            ).format(
                slot_table(slot, name), pair_table(pair, name), sql.Literal(slot), sql.Literal(slot)
            )
        )


def replace_table(
    session: psycopg.Connection, pair: int, name: str, columns: Columns | None
) -> None:
    """Give a table other columns, or remove it (None). Nobody may read its pair yet."""
    with session.transaction():
        contents.forget(session, slots_of(pair), name)
        session.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(pair_table(pair, name)))
        if columns is not None:
            create_table(session, pair, name, columns)


def old_readers(session: psycopg.Connection, switch_xid: str) -> list[str]:
    """Readers that may still see the version before that switch, described for people.

    A snapshot from before the switch has an xmin that is not younger than the switch. This looks at
    sessions of this database, and at standby servers that announce their readers.
    """
    # Without this role, PostgreSQL hides the xmin of other users' sessions.
    row = session.execute(
        "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')"
    ).fetchone()
    if row == (False,):
        return ["sessions that the publishing user may not see (GRANT pg_read_all_stats to it)"]
    # By age, because transaction ids wrap around and cannot be compared by size.
    return [
        reader
        for (reader,) in session.execute(
            """
            SELECT format('pid %%s (%%s %%s, transaction since %%s)', pid, usename,
                          application_name, xact_start)
            FROM pg_stat_activity
            WHERE (datname = current_database() AND backend_type <> 'autovacuum worker'
                   OR backend_type = 'walsender')
              AND pid <> pg_backend_pid() AND age(backend_xmin) >= age(%(xid)s::xid)
            UNION ALL
            SELECT format('replication slot %%s', slot_name) FROM pg_replication_slots
            WHERE age(xmin) >= age(%(xid)s::xid)
            """,
            {"xid": switch_xid},
        )
    ]


def wait_for_old_readers(session: psycopg.Connection, switch_xid: str) -> list[str]:
    """Wait until nobody sees the version before that switch, at most `PATIENCE_SECONDS`.

    Returns the readers that still see it.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (readers := old_readers(session, switch_xid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return readers


def with_short_locks(session: psycopg.Connection, until: float, work: Callable[[], None]) -> bool:
    """Run `work` in a transaction. Try again until this monotonic time if a lock is not available.

    Returns whether it worked. Every later reader queues behind a strong lock that waits. So an
    attempt waits 50 ms at most, and then lets the readers pass.
    """
    while True:
        try:
            with session.transaction():
                session.execute("SET LOCAL lock_timeout = '50ms'")
                work()
            return True
        except psycopg.errors.LockNotAvailable:
            if time.monotonic() > until:
                return False
            time.sleep(0.2)


def drop_other_pairs(session: psycopg.Connection, current: Current | None) -> None:
    """Drop the pairs that are not current.

    If somebody may still see one of them, a later publication drops it.
    """
    pairs = read_pairs(session)
    others = [pair for pair in pairs if current is None or pair != pair_of(current.slot)]
    if not others or (current and old_readers(session, current.switch_xid)):
        return

    kept = pair_of(current.slot) if current else None
    order = list(pairs[kept]) if kept is not None else []

    def drop() -> None:
        if kept is not None:
            # The views read the old pairs too, for readers with an older snapshot.
            replace_views(session, pairs[kept], {kept: pairs[kept]}, order)
        for pair in others:
            schemas = [f"production_pair_{pair}", *map(slot_schema, slots_of(pair))]
            session.execute(
                sql.SQL("DROP SCHEMA {} CASCADE").format(
                    sql.SQL(", ").join(map(sql.Identifier, schemas))
                )
            )
            contents.forget(session, slots_of(pair))

    with_short_locks(session, time.monotonic() + PATIENCE_SECONDS, drop)


def empty_table(
    session: psycopg.Connection, slot: int, name: str, patient_until: float | None
) -> None:
    """Remove all rows of a slot's table, and its indexes if possible.

    `patient_until`: the monotonic time until which to try TRUNCATE. None if somebody may still see
    the rows. TRUNCATE needs an exclusive lock, and it empties the table for older snapshots too.

    DELETE is the other way. It disturbs no reader. But it takes longer, it keeps the space of rows
    that somebody still sees, and the indexes stay and slow down the copy.
    """

    def truncate() -> None:
        session.execute(sql.SQL("TRUNCATE {}").format(slot_table(slot, name)))
        for (index,) in session.execute(
            "SELECT indexname FROM pg_indexes WHERE schemaname = %s AND tablename = %s",
            [slot_schema(slot), name],
        ).fetchall():
            session.execute(sql.SQL("DROP INDEX {}").format(slot_table(slot, index)))

    if patient_until is None or not with_short_locks(session, patient_until, truncate):
        session.execute(sql.SQL("DELETE FROM {}").format(slot_table(slot, name)))
        vacuum(session, slot, name)


def vacuum(session: psycopg.Connection, slot: int, name: str) -> None:
    """Free the space of rows that nobody sees any more.

    To shorten the file, VACUUM would need a lock that excludes readers.
    """
    session.execute(sql.SQL("VACUUM (TRUNCATE false) {}").format(slot_table(slot, name)))


def copy_slot(
    session: psycopg.Connection,
    source: int,
    target: int,
    name: str,
    columns: Sequence[str],
    known: Rows | None = None,
) -> Rows:
    """Append all rows of a table in one slot to the same table in another. Returns them.

    No audit compares this copy with staging, so both tables are added up. The source is not if its
    rows are `known`. Raises `PublishError` if they differ.
    """
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    session.execute(
        sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {}").format(
            slot_table(target, name), names, names, slot_table(source, name)
        )
    )
    before = known or contents.count(session, slot_table(source, name), columns)
    after = contents.count(session, slot_table(target, name), columns)
    if before != after:
        raise PublishError(
            f"production/{name}: the copy of what is live has other rows, nothing was published. "
            f"Look for triggers on {slot_schema(target)}.{name}."
        )
    return after


def create_index(
    session: psycopg.Connection,
    slot: int,
    name: str,
    index: str,
    columns: Iterable[str],
    unique: bool,
) -> None:
    """Create an index on a slot's table, unless the table still has it.

    A primary key would need an exclusive lock on the table. A unique index does not.
    """
    session.execute(
        sql.SQL("CREATE {} INDEX IF NOT EXISTS {} ON {} ({})").format(
            sql.SQL("UNIQUE" if unique else ""),
            sql.Identifier(index),
            slot_table(slot, name),
            sql.SQL(", ").join(map(sql.Identifier, columns)),
        )
    )


def read_indexes(
    session: psycopg.Connection, slot: int
) -> list[tuple[str, str, tuple[str, ...], bool]]:
    """The indexes of a slot's tables, each as (table, index, columns, whether it is unique)."""
    return [
        (table, index, tuple(columns), unique)
        for table, index, columns, unique in session.execute(
            """
            SELECT t.relname, c.relname, array_agg(a.attname::text ORDER BY a.attnum),
                   i.indisunique
            FROM pg_index i
            JOIN pg_class c ON c.oid = i.indexrelid
            JOIN pg_class t ON t.oid = i.indrelid
            JOIN pg_attribute a ON a.attrelid = i.indexrelid
            WHERE t.relnamespace = %s::regnamespace
            GROUP BY t.relname, c.relname, i.indisunique
            """,
            [slot_schema(slot)],
        )
    ]


def analyze(session: psycopg.Connection, slots: Sequence[int], name: str) -> None:
    """Make the planner's statistics of a table in slots of one pair.

    Joins also need the statistics of the partitioned table over it.
    """
    whole = pair_table(pair_of(slots[0]), name)
    # Before PostgreSQL 18 there is no ONLY here: statistics of the whole come with all partitions.
    if session.info.server_version >= 180000:
        parts = sql.SQL(", ").join(slot_table(slot, name) for slot in slots)
        session.execute(sql.SQL("ANALYZE ONLY {}, {}").format(whole, parts))
    else:
        session.execute(sql.SQL("ANALYZE {}").format(whole))


def replace_views(
    session: psycopg.Connection, shape: Shape, pairs: Mapping[int, Shape], order: list[str]
) -> None:
    """Give the schema `production` one view per table of `shape`, each over these pairs.

    `order`: the names of the tables, in the order in which views are locked. Readers that take the
    locks in another order could refuse us one of them for ever. So the view that was not to be had
    becomes the first of the next attempt: before it is waited for, no lock is held that a reader
    waits for.

    If a pair has other columns, the view casts them to the new types by way of text. Missing
    columns are null. `softcart_assets.views` keeps what people gave the views and built on them.
    """
    for name in order:
        columns = shape[name]
        parts = [
            sql.SQL(
                "SELECT {} FROM {} WHERE _slot = (SELECT slot FROM production_meta.current)"
            ).format(
                sql.SQL(", ").join(
                    _as(column, kind, dict(there[name])) for column, kind in columns
                ),
                pair_table(pair, name),
            )
            for pair, there in pairs.items()
            if name in there
        ]
        try:
            views.replace(session, view_name(name), sql.SQL(" UNION ALL ").join(parts).as_string())
        except psycopg.errors.LockNotAvailable:
            order.remove(name)
            order.insert(0, name)
            raise


def _as(column: str, kind: str, there: Mapping[str, str]) -> sql.Composable:
    """A column of a view, read from a table that has the columns `there`."""
    if there.get(column) == kind:
        return sql.Identifier(column)
    value = sql.SQL("{}::text").format(sql.Identifier(column)) if column in there else sql.NULL
    return sql.SQL("({})::{} AS {}").format(value, sql.SQL(kind), sql.Identifier(column))


def switch(
    session: psycopg.Connection,
    new: Version,
    current: Current | None,
    also: Callable[[], None],
) -> None:
    """Let readers see this version from now on. `also`: what else commits with the switch.

    Raises `PublishError` if views must be replaced, and readers use them for longer than
    `DDL_PATIENCE_SECONDS` or other objects depend on them.
    """

    order = list(new.shape)

    def publish() -> None:
        if current is None or pair_of(new.slot) != pair_of(current.slot):
            gone = current.row_counts.keys() - new.shape.keys() if current else ()
            for name in gone:
                session.execute(f"DROP VIEW {view_name(name)}".encode())
            replace_views(session, new.shape, read_pairs(session), order)
            if current:
                _carry_privileges(session, pair_of(current.slot), pair_of(new.slot))
        # Before the switch, because it reads the time of the version that is still current.
        _record_lines(session, new)
        session.execute(
            """
            INSERT INTO production_meta.current
              (version, slot, switch_xid, published_at, row_counts)
            VALUES (%s, %s, pg_current_xact_id(), now(), %s)
            ON CONFLICT (is_only_row) DO UPDATE SET
              version = excluded.version, slot = excluded.slot, switch_xid = excluded.switch_xid,
              published_at = excluded.published_at, row_counts = excluded.row_counts
            """,
            [new.number, new.slot, Jsonb(new.row_counts)],
        )
        for slot in new.filled:
            contents.store(session, slot, new.contents)
        session.execute(
            "INSERT INTO production_meta.versions"
            " SELECT version, published_at, row_counts FROM production_meta.current"
        )
        session.execute(
            "DELETE FROM production_meta.versions WHERE version <= %s",
            [new.number - VERSIONS_OF_HISTORY],
        )
        also()

    try:
        done = with_short_locks(session, time.monotonic() + DDL_PATIENCE_SECONDS, publish)
    except psycopg.errors.DependentObjectsStillExist as error:
        raise PublishError(
            "Nothing was published: columns or tables were taken away or changed, and something of "
            f"others depends on them in production: {error.diag.message_detail} Drop it, publish, "
            "and create it again."
        ) from None
    except views.ViewKept as error:
        raise PublishError(
            f"Nothing was published: published tables have other columns than before, and {error}. "
            "Drop the view, publish, and create it again. If the publishing user only lacks the "
            "right to change it, GRANT the view's owner to that user instead."
        ) from None
    if not done:
        readers = session.execute(
            """
            SELECT DISTINCT format('pid %s (%s %s, transaction since %s)', a.pid, a.usename,
                                   a.application_name, a.xact_start)
            FROM pg_locks l
            JOIN pg_class c ON c.oid = l.relation AND c.relnamespace = 'production'::regnamespace
            JOIN pg_stat_activity a ON a.pid = l.pid AND a.datname = current_database()
            """
        ).fetchall()
        raise PublishError(
            "Nothing was published: published tables have other columns than before, so all views "
            f"must be replaced, but for {DDL_PATIENCE_SECONDS:.0f} s transactions kept reading "
            f"them: {', '.join(reader for (reader,) in readers) or 'none any more'}. End them and "
            "publish again."
        )


def _carry_privileges(session: psycopg.Connection, old: int, new: int) -> None:
    """Give the tables of a new pair the privileges of the old one.

    A view reads them as its owner, who may be another role than the publishing user.
    """
    tables = read_pairs(session)
    for name in tables[old].keys() & tables[new].keys():
        views.carry_privileges(
            session, *(pair_table(pair, name).as_string() for pair in (old, new))
        )
    for grantee, privilege in session.execute(
        """
        SELECT pg_get_userbyid(g.grantee), g.privilege_type
        FROM pg_namespace, aclexplode(nspacl) g WHERE nspname = %s AND g.grantee <> 0
        """,
        [f"production_pair_{old}"],
    ).fetchall():
        session.execute(
            sql.SQL("GRANT {} ON SCHEMA {} TO {}").format(
                sql.SQL(privilege),
                sql.Identifier(f"production_pair_{new}"),
                sql.Identifier(grantee),
            )
        )


def _record_lines(session: psycopg.Connection, new: Version) -> None:
    """Record the live part of each line. Lines that are no longer declared disappear."""
    session.execute("DELETE FROM production_meta.lines WHERE line <> ALL(%s)", [list(new.lines)])
    for line, live in new.lines.items():
        # A line that keeps its version keeps its time too. If that version is older than the
        # records of lines, the time is that of the whole version.
        session.execute(
            """
            INSERT INTO production_meta.lines (line, version, published_at, tables)
            SELECT %(line)s, %(version)s,
                   CASE WHEN %(is_new)s THEN now()
                   ELSE (SELECT published_at FROM production_meta.current) END, %(tables)s
            ON CONFLICT (line) DO UPDATE SET
              version = excluded.version, tables = excluded.tables,
              published_at = CASE WHEN %(is_new)s THEN excluded.published_at
                             ELSE lines.published_at END
            """,
            {
                "line": line,
                "version": live.version,
                "is_new": live.version == new.number,
                "tables": list(live.tables),
            },
        )

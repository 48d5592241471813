"""Keeps `identities.people` in the staging warehouse: which customers are the same person.

A run compares the customers that changed with those who have something in common with them. It
decides anew about whom these pairs connect, and about nobody else.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import psycopg
from psycopg import sql

from softcart_assets import locks, warehouse_state
from softcart_assets.connections import PostgresConnection
from softcart_assets.extracts import kept
from softcart_assets.identities.people import Customer, Decision, Pair, People, people, probability
from softcart_assets.identities.people import prior as prior_of

_REASONS = {1: "email", 2: "phone", 3: "likeness"}
COMPARED = ("full_name", "email", "phone", "birth_date", "city", "country_code", "postal_code")
"""What is compared, of the columns of int_<line>__customer_versions."""

PROMISES = {
    "complete": "Every customer of every line is exactly one person.",
    "one_customer_per_line": "No person has two customers of one line.",
    "one_birth_date": "No person has two dates of birth, except by decision of somebody.",
}
"""What must hold of people. Otherwise the last ones stay."""


@dataclass(frozen=True)
class Built:
    """What a build did. `content`: a hash of who is who.

    `changed`: how many customers were compared, because they changed or share an address or a
    number with one who did. `refused`: pairs that were good enough alone, and contradict others.
    """

    customers: int
    people: int
    changed: int
    joined: int
    split: int
    refused: int
    expected_precision: float
    broken: dict[str, int]
    content: str


def code_version() -> str:
    """A number of the code and the model by which people are found."""
    return kept.digest([kept.code_version(__package__), metadata.version("splink")])


def build(staging: PostgresConnection, lines: Sequence[str]) -> Built:
    """Bring `identities.people` up to date with the current customers of these lines.

    `broken` of the result has the promises that do not hold, with how often. Then nothing was
    written.
    """
    with staging.connect(autocommit=True) as alone:
        # Two at once would find the same customers new.
        locks.take(alone, "softcart identities")
        warehouse_state.prepare(alone, "identities")
        with staging.connect() as session:
            built = _Build(session).build(lines)
            if built.broken:
                session.rollback()
    return built


class _Build:
    """One build, in the transaction of a session."""

    def __init__(self, session: psycopg.Connection) -> None:
        self._session = session
        self._found = People()

    def build(self, lines: Sequence[str]) -> Built:
        self._read_customers(lines)
        largest = self._number(
            "SELECT coalesce(max(count), 0) FROM"
            " (SELECT count(*) FROM customers GROUP BY line_of_business)"
        )
        self._prior = prior_of(largest)
        self._forget_other_builds()
        self._find_changes()
        changed = 0
        if self._number("SELECT count(*) FROM seeds"):
            changed = self._compare()
            self._decide()
        return self._told(changed)

    def _read_customers(self, lines: Sequence[str]) -> None:
        """The current customers of all lines, each with a hash of what is compared."""
        self._session.execute(
            """
            CREATE TEMPORARY TABLE customers (
              line_of_business text, customer_id bigint, full_name text, email text, phone text,
              birth_date date, city text, country_code text, postal_code text, content uuid,
              PRIMARY KEY (line_of_business, customer_id)
            ) ON COMMIT DROP
            """
        )
        columns = sql.SQL(", ").join(map(sql.Identifier, COMPARED))
        for line in lines:
            self._session.execute(
                sql.SQL(
                    "INSERT INTO customers SELECT %s, customer_id, {columns},"
                    " md5(jsonb_build_array({columns})::text)::uuid"
                    " FROM {versions} WHERE is_current AND NOT is_deleted"
                ).format(
                    columns=columns,
                    versions=sql.Identifier("warehouse", f"int_{line}__customer_versions"),
                ),
                [line],
            )
        self._session.execute("ANALYZE customers")

    def _forget_other_builds(self) -> None:
        """Forget what other code compared, or with another prior. The ids stay."""
        built_with = f"{code_version()} {self._prior}"
        if self._number(
            "SELECT count(*) FROM identities._built_with WHERE built_with = %s", built_with
        ):
            return
        for table in ("records", "keys", "pairs", "_built_with"):
            self._session.execute(
                sql.SQL("DELETE FROM {}").format(sql.Identifier("identities", table))
            )
        self._session.execute("INSERT INTO identities._built_with VALUES (%s)", [built_with])

    def _find_changes(self) -> None:
        """Make the tables `changed` and `gone`, and `seeds`: about whom to decide anew."""
        self._session.execute(
            """
            CREATE TEMPORARY TABLE changed ON COMMIT DROP AS
            SELECT line_of_business, customer_id
            FROM customers LEFT JOIN identities.records AS r USING (line_of_business, customer_id)
            WHERE r.content IS DISTINCT FROM customers.content;

            CREATE TEMPORARY TABLE gone ON COMMIT DROP AS
            SELECT line_of_business, customer_id
            FROM identities.records LEFT JOIN customers AS c USING (line_of_business, customer_id)
            WHERE c.content IS NULL;

            CREATE TEMPORARY TABLE seeds ON COMMIT DROP AS
            SELECT * FROM changed UNION ALL SELECT * FROM gone
            UNION ALL
            SELECT line, id FROM (
              -- Also one that was changed, or taken back.
              (
                SELECT left_line, left_id, right_line, right_id, is_same FROM identities.decisions
                EXCEPT SELECT * FROM identities._obeyed
              )
              UNION ALL
              (
                SELECT * FROM identities._obeyed
                EXCEPT
                SELECT left_line, left_id, right_line, right_id, is_same FROM identities.decisions
              )
            ) AS differing
            CROSS JOIN LATERAL (VALUES (left_line, left_id), (right_line, right_id)) c (line, id);
            """
        )

    def _compare(self) -> int:
        """Replace the pairs of customers that changed. Returns the number of these customers."""
        # Splink takes a second to import, and a run without changes needs none of it.
        from softcart_assets.identities.compare import compare, keys, records

        session = self._session
        session.execute(
            """
            CREATE TEMPORARY TABLE touched ON COMMIT DROP AS
            SELECT DISTINCT key
            FROM identities.keys JOIN seeds USING (line_of_business, customer_id)
            WHERE is_identifier;

            DELETE FROM identities.keys AS k USING seeds
            WHERE (k.line_of_business, k.customer_id) = (seeds.line_of_business, seeds.customer_id);
            DELETE FROM identities.records AS r USING gone
            WHERE (r.line_of_business, r.customer_id) = (gone.line_of_business, gone.customer_id);
            INSERT INTO identities.records
            SELECT line_of_business, customer_id, content
            FROM customers JOIN changed USING (line_of_business, customer_id)
            ON CONFLICT (line_of_business, customer_id) DO UPDATE SET content = excluded.content;

            -- Who is decided about is compared again, too.
            INSERT INTO changed
            SELECT DISTINCT line_of_business, customer_id
            FROM seeds JOIN customers USING (line_of_business, customer_id)
            EXCEPT SELECT * FROM changed;
            """
        )
        new = records(self._customers("JOIN changed USING (line_of_business, customer_id)", "true"))
        self._copy("identities.keys (line_of_business, customer_id, key, is_identifier)", keys(new))
        session.execute(
            """
            INSERT INTO touched
            SELECT DISTINCT key
            FROM identities.keys JOIN changed USING (line_of_business, customer_id)
            WHERE is_identifier;

            -- An address of theirs may identify nobody any more, or somebody again.
            INSERT INTO changed
            SELECT line_of_business, customer_id
            FROM identities.keys WHERE is_identifier AND key IN (SELECT key FROM touched)
            EXCEPT SELECT * FROM changed;
            ANALYZE changed;
            ANALYZE identities.keys;

            CREATE TEMPORARY TABLE candidates ON COMMIT DROP AS
            SELECT DISTINCT line_of_business, customer_id FROM identities.keys WHERE key IN (
              SELECT key FROM identities.keys JOIN changed USING (line_of_business, customer_id)
            );

            INSERT INTO seeds SELECT * FROM changed;
            WITH old AS (
              DELETE FROM identities.pairs
              WHERE (left_line, left_id) IN (SELECT * FROM seeds)
              OR (right_line, right_id) IN (SELECT * FROM seeds)
              RETURNING *
            )
            INSERT INTO seeds
            SELECT left_line, left_id FROM old UNION SELECT right_line, right_id FROM old;
            """
        )
        pairs = compare(
            records(
                self._customers(
                    "JOIN candidates USING (line_of_business, customer_id)"
                    " LEFT JOIN changed AS c USING (line_of_business, customer_id)",
                    "c.line_of_business IS NOT NULL",
                )
            )
        )
        self._copy(
            "identities.pairs"
            " (left_line, left_id, right_line, right_id, reason, weight, probability_pct)",
            (
                (
                    *(pair.left.line, pair.left.id, pair.right.line, pair.right.id),
                    *(_REASONS[pair.rank], pair.weight),
                    round(100 * probability(pair, self._prior), 4),
                )
                for pair in pairs
            ),
        )
        return self._number("SELECT count(*) FROM changed")

    def _customers(self, joins: str, is_changed: str) -> list[tuple[Any, ...]]:
        """Some customers with what is compared, and whether they changed. Not from outside."""
        return self._session.execute(
            f"SELECT line_of_business, customer_id, {', '.join(COMPARED)}, {is_changed}"
            f" FROM customers {joins}"
        ).fetchall()

    def _decide(self) -> None:
        """Decide who is who among all whom pairs and decisions connect with the seeds."""
        session = self._session
        session.execute(
            """
            CREATE TEMPORARY VIEW links AS
            SELECT left_line, left_id, right_line, right_id FROM identities.pairs
            UNION ALL SELECT right_line, right_id, left_line, left_id FROM identities.pairs
            UNION ALL SELECT left_line, left_id, right_line, right_id FROM identities.decisions
            UNION ALL SELECT right_line, right_id, left_line, left_id FROM identities.decisions;

            CREATE TEMPORARY TABLE affected ON COMMIT DROP AS
            WITH RECURSIVE reached AS (
              SELECT line_of_business, customer_id FROM seeds
              UNION
              SELECT right_line, right_id FROM reached JOIN links
              ON (left_line, left_id) = (line_of_business, customer_id)
            )
            SELECT * FROM reached;
            ANALYZE affected;
            """
        )
        rows = session.execute(
            """
            SELECT line_of_business, customer_id, birth_date, person_id, person_since
            FROM affected JOIN customers USING (line_of_business, customer_id)
            LEFT JOIN identities.people USING (line_of_business, customer_id)
            -- Who is new and alone needs no thought.
            WHERE person_id IS NOT NULL OR EXISTS (
              SELECT FROM links WHERE (left_line, left_id) = (line_of_business, customer_id)
            )
            """
        ).fetchall()
        customers = [Customer(line, number) for line, number, *_ in rows]
        known = {customer: row[3] for customer, row in zip(customers, rows, strict=True) if row[3]}
        since: dict[uuid.UUID, datetime] = {row[3]: row[4] for row in rows if row[3]}
        self._found = people(
            {customer: row[2] for customer, row in zip(customers, rows, strict=True)},
            self._pairs(),
            self._decisions(),
            known,
            prior=self._prior,
            since=since,
            taken=self._held_by_others(),
        )
        self._write(known, since)
        session.execute("DROP VIEW links")

    def _pairs(self) -> list[Pair]:
        ranks = {reason: rank for rank, reason in _REASONS.items()}
        return [
            Pair(Customer(left, left_id), Customer(right, right_id), ranks[reason], weight)
            for left, left_id, right, right_id, reason, weight in self._session.execute(
                "SELECT left_line, left_id, right_line, right_id, reason, weight"
                " FROM identities.pairs JOIN affected"
                " ON (left_line, left_id) = (line_of_business, customer_id)"
            )
        ]

    def _decisions(self) -> list[Decision]:
        return [
            Decision(Customer(left, left_id), Customer(right, right_id), is_same)
            for left, left_id, right, right_id, is_same in self._session.execute(
                "SELECT left_line, left_id, right_line, right_id, is_same"
                " FROM identities.decisions JOIN affected"
                " ON (left_line, left_id) = (line_of_business, customer_id)"
            )
        ]

    def _held_by_others(self) -> list[uuid.UUID]:
        """Ids that customers named once, and that somebody has about whom nothing is decided."""
        rows = self._session.execute(
            """
            SELECT DISTINCT person_id
            FROM identities.people LEFT JOIN affected AS a USING (line_of_business, customer_id)
            WHERE a.line_of_business IS NULL AND person_id IN (
              SELECT md5(jsonb_build_array(line_of_business, customer_id)::text)::uuid FROM affected
            )
            """
        )
        return [person for (person,) in rows]

    def _write(self, known: dict[Customer, uuid.UUID], since: dict[uuid.UUID, datetime]) -> None:
        session, found = self._session, self._found
        session.execute("CREATE TEMPORARY TABLE new (LIKE identities.people) ON COMMIT DROP")
        now = datetime.now(UTC)
        self._copy(
            "new",
            (
                (customer.line, customer.id, person, since.get(person, now))
                for customer, person in found.person_of.items()
                if known.get(customer) != person
            ),
        )
        session.execute(
            """
            INSERT INTO identities.people SELECT * FROM new
            ON CONFLICT (line_of_business, customer_id)
            DO UPDATE SET (person_id, person_since) = (excluded.person_id, excluded.person_since);

            INSERT INTO identities.people
            SELECT
              line_of_business, customer_id,
              md5(jsonb_build_array(line_of_business, customer_id)::text)::uuid, now()
            FROM customers
            WHERE NOT EXISTS (
              SELECT FROM identities.people AS p
              WHERE (p.line_of_business, p.customer_id)
                = (customers.line_of_business, customers.customer_id)
            );

            DELETE FROM identities._obeyed;
            INSERT INTO identities._obeyed
            SELECT left_line, left_id, right_line, right_id, is_same FROM identities.decisions;
            CREATE TEMPORARY TABLE verdicts (
              left_line text, left_id bigint, right_line text, right_id bigint, verdict text
            ) ON COMMIT DROP;
            """
        )
        told = [(pair, "believed") for pair in found.believed] + found.refused
        self._copy(
            "verdicts",
            (
                (pair.left.line, pair.left.id, pair.right.line, pair.right.id, verdict)
                for pair, verdict in told
            ),
        )
        session.execute(
            """
            UPDATE identities.pairs SET verdict = 'too little evidence'
            WHERE (left_line, left_id) IN (SELECT * FROM affected);
            UPDATE identities.pairs AS p SET verdict = v.verdict FROM verdicts AS v
            WHERE (p.left_line, p.left_id, p.right_line, p.right_id)
              = (v.left_line, v.left_id, v.right_line, v.right_id);
            """
        )
        changes = [("joined", was, now) for now, was in found.joined]
        changes += [("split", was, now) for was, now in found.split]
        self._copy("identities.changes (kind, was, now)", changes)

    def _told(self, changed: int) -> Built:
        row = self._session.execute(
            """
            SELECT
              count(*), count(DISTINCT person_id),
              -- The order of rows does not count.
              coalesce(sum(hashtextextended(
                concat_ws('/', line_of_business, customer_id, person_id), 0
              )::numeric), 0)
            FROM identities.people JOIN customers USING (line_of_business, customer_id)
            """
        ).fetchone()
        assert row
        refused, precision = self._session.execute(
            """
            SELECT
              count(*) FILTER (WHERE verdict NOT IN ('believed', 'too little evidence')),
              coalesce(avg(probability_pct) FILTER (WHERE verdict = 'believed') / 100, 1)
            FROM identities.pairs
            """
        ).fetchone() or (0, 1.0)
        return Built(
            customers=row[0],
            people=row[1],
            changed=changed,
            joined=len(self._found.joined),
            split=len(self._found.split),
            refused=refused,
            expected_precision=precision,
            broken={name: count for name, count in self._breaches() if count},
            content=kept.digest([row[0], row[1], str(row[2])]),
        )

    def _breaches(self) -> Iterable[tuple[str, int]]:
        """How often each promise does not hold."""
        yield (
            "complete",
            self._number(
                """
                SELECT count(*)
                FROM customers
                LEFT JOIN identities.people AS p USING (line_of_business, customer_id)
                WHERE p.person_id IS NULL
                """
            ),
        )
        members = """
            SELECT person_id
            FROM customers JOIN identities.people AS p USING (line_of_business, customer_id)
            {} GROUP BY person_id HAVING {}
        """
        twice = members.format("", "count(*) > count(DISTINCT line_of_business)")
        yield "one_customer_per_line", self._number(f"SELECT count(*) FROM ({twice})")
        undecided = """
            WHERE NOT EXISTS (
              SELECT FROM identities.decisions JOIN identities.people AS d
              ON (d.line_of_business, d.customer_id) = (left_line, left_id)
              WHERE is_same AND d.person_id = p.person_id
            )
        """
        born = members.format(undecided, "count(DISTINCT birth_date) > 1")
        yield "one_birth_date", self._number(f"SELECT count(*) FROM ({born})")

    def _number(self, query: str, *values: object) -> int:
        row = self._session.execute(query, values or None).fetchone()
        assert row
        return int(row[0])

    def _copy(self, table: str, rows: Iterable[Sequence[object]]) -> None:
        with self._session.cursor() as cursor:
            with cursor.copy(f"COPY {table} FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)

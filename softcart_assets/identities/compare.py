"""Finds pairs of customers who may be one person: by e-mail, by phone, else by likeness.

Splink weighs the likeness (the model of Fellegi and Sunter), on DuckDB. Its parameters are in
`model.json`, so a pair has the same weight today and tomorrow, whatever other records there are.
That is also why nothing here counts how often a name occurs.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
from splink import DuckDBAPI, Linker

from softcart_assets.identities.people import THRESHOLD, Customer, Pair

SCHEMA: Final = pa.schema(
    {
        "line": pa.string(),
        "customer_id": pa.int64(),
        "full_name": pa.string(),
        "email": pa.string(),
        "phone": pa.string(),
        "birth_date": pa.date32(),
        "city": pa.string(),
        "country_code": pa.string(),
        "postal_code": pa.string(),
        "is_changed": pa.bool_(),
    }
)
"""What `compare` reads of each customer. `is_changed`: since its pairs were last compared."""

MODEL: Final = Path(__file__).with_name("model.json")

# Letters of any script, without accents, in alphabetical order of the words. So `MÜLLER, Anna` and
# `Anna Mueller` are equal. A phone number is its last nine digits, because the same number may be
# written with the calling code or without. Nothing after a letter, as in `ext. 3`, is part of it.
PREPARED: Final = r"""
    CREATE TABLE prepared AS
    WITH normal AS (
      SELECT
        line AS source_dataset, customer_id AS unique_id, is_changed, birth_date, country_code,
        list_sort(list_filter(
          regexp_split_to_array(
            regexp_replace(
              regexp_replace(
                replace(lower(strip_accents(full_name)), 'ß', 'ss'), '([aou])e', '\1', 'g'
              ),
              '[^\pL]+', ' ', 'g'
            ), ' '
          ),
          lambda word: word <> ''
        )) AS words,
        CASE WHEN regexp_full_match(lower(trim(email)), '[^@\s]+@[^@\s]+\.[^@\s.]+')
          THEN lower(trim(email)) END AS email,
        regexp_replace(
          regexp_replace(replace(phone, '(0)', ''), '[a-zA-Z].*$', ''), '[^0-9]', '', 'g'
        ) AS digits,
        lower(strip_accents(city)) AS city,
        upper(regexp_replace(postal_code, '[^0-9a-zA-Z]', '', 'g')) AS postal_code
      FROM records
    )
    SELECT
      * EXCLUDE (digits), array_to_string(words, ' ') AS name,
      CASE WHEN length(digits) >= 9 THEN right(digits, 9) END AS phone
    FROM normal
"""

# An address or a number that two customers of one line have belongs to a family or to an office.
# It says little about who somebody is. Then the likeness decides.
_OWN: Final = """
    SELECT {0} FROM prepared WHERE {0} IS NOT NULL GROUP BY {0}
    HAVING count(*) = count(DISTINCT source_dataset)
"""

# Names fit if every word of the shorter one is in the longer one, an initial counting as its word.
# `Eva Miller` does not fit `Anna Miller`: who shares an address, a house and a family name may be
# somebody else. Nor does a mistyped name fit. Then the date of birth must be the same.
_FITS: Final = """
    CREATE MACRO covers(few, many) AS len(few) > 1 AND len(list_filter(few, lambda word:
      NOT list_contains(many, word)
      AND NOT list_contains(many, word[1])
      AND NOT (length(word) = 1 AND len(list_filter(many, lambda other: other[1] = word)) > 0)
    )) = 0;
    CREATE MACRO fits(one, two) AS one = two OR covers(one, two) OR covers(two, one);
"""

_IDENTIFIED: Final = f"""
    CREATE TABLE identified AS
    WITH own_emails AS ({_OWN.format("email")}), own_phones AS ({_OWN.format("phone")})
    SELECT
      l.source_dataset AS left_line, l.unique_id AS left_id,
      r.source_dataset AS right_line, r.unique_id AS right_id,
      found.rank
    FROM (
      SELECT l.rowid AS a, r.rowid AS b, 1 AS rank
      FROM prepared l JOIN prepared r USING (email) SEMI JOIN own_emails USING (email)
      UNION ALL
      SELECT l.rowid, r.rowid, 2
      FROM prepared l JOIN prepared r USING (phone) SEMI JOIN own_phones USING (phone)
    ) found
    JOIN prepared l ON l.rowid = found.a
    JOIN prepared r ON r.rowid = found.b
    WHERE l.source_dataset < r.source_dataset AND (l.is_changed OR r.is_changed)
"""

# Each pair once, with its best rank and its weight, if nothing contradicts it.
_PAIRS: Final = """
    SELECT
      left_line, left_id, right_line, right_id, min(rank), round(max(weight), 3)
    FROM (
      SELECT left_line, left_id, right_line, right_id, rank, NULL AS weight FROM identified
      UNION ALL
      SELECT source_dataset_l, unique_id_l, source_dataset_r, unique_id_r, 3, match_weight
      FROM {weighed}
    )
    JOIN prepared l ON l.source_dataset = left_line AND l.unique_id = left_id
    JOIN prepared r ON r.source_dataset = right_line AND r.unique_id = right_id
    WHERE coalesce(l.birth_date = r.birth_date, fits(l.words, r.words))
    GROUP BY ALL
    HAVING min(rank) < 3 OR max(weight) >= {threshold}
    ORDER BY ALL
"""


# What two records must have in common to be compared at all, as `model.json` says. The first two
# identify somebody.
_KEYS: Final = """
    SELECT source_dataset, unique_id, md5(concat_ws('|', kind, value))::uuid, kind < 'c'
    FROM (
      SELECT source_dataset, unique_id, unnest(['a', 'b', 'c', 'd']) AS kind, unnest([
        email,
        phone,
        birth_date::text || '|' || country_code,
        name || '|' || postal_code
      ]) AS value
      FROM prepared
    )
    WHERE value IS NOT NULL
"""


def records(rows: Iterable[Sequence[object]]) -> pa.Table:
    """Customers, from rows with the columns of `SCHEMA` in their order."""
    columns: list[Sequence[object]] = [*zip(*rows, strict=True)] or [()] * len(SCHEMA)
    return pa.Table.from_arrays(
        [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)],
        schema=SCHEMA,
    )


def keys(records: pa.Table) -> list[tuple[str, int, uuid.UUID, bool]]:
    """The keys by which others are found who may be the same person, as hashes.

    Line, customer, key, and whether it is an e-mail address or a phone number.
    """
    with duckdb.connect() as session:
        session.register("records", records)
        session.execute(PREPARED)
        return session.execute(_KEYS).fetchall()


def compare(records: pa.Table) -> list[Pair]:
    """The pairs of customers of different lines who may be one person.

    `records` has the columns of `SCHEMA`: the changed customers and at least those who have a key
    in common with one of them. Only pairs with a changed customer are compared. Who has or had an
    e-mail address or a phone number in common with a changed customer counts as changed, too: it
    may identify nobody any more, or again.
    """
    with duckdb.connect() as session:
        session.register("records", records)
        session.execute(PREPARED)
        lines = session.execute("SELECT count(DISTINCT source_dataset) FROM prepared").fetchone()
        if not lines or lines[0] < 2:
            return []
        session.execute(_FITS)
        session.execute(_IDENTIFIED)
        weighed = linker(session, json.loads(MODEL.read_text())).inference.predict()
        pairs = _PAIRS.format(weighed=weighed.physical_name, threshold=THRESHOLD)
        rows = session.execute(pairs).fetchall()
    return [
        Pair(Customer(left_line, left), Customer(right_line, right), rank, weight)
        for left_line, left, right_line, right, rank, weight in rows
    ]


def linker(
    session: duckdb.DuckDBPyConnection, model: dict[str, Any], table: str = "prepared"
) -> Linker:
    """Splink over the prepared records of a session."""
    database = DuckDBAPI(connection=session)
    return Linker(database.register(table), model, log_level="ERROR")

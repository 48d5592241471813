"""The data are broken on purpose, once for every check of the project: that check fails, and only what depends on it.

`_breakage` says for each check what breaks it and which other checks that fails too. What does not interfere is broken
together, in copies of the databases, and the checks are run by Dagster as always. A check that is added without a
breakage makes the tests fail. Last, the same on the project itself: a broken raw table stops all that comes after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import dagster as dg
import pytest
from conftest import QUIET, Project
from support.databases import database

from softcart_assets.audits.suite import AUDITS
from softcart_assets.connections import production, staging
from softcart_assets.publishing import slots
from softcart_assets.publishing.tables import PUBLISHED

AUDITED = {audit.name: audit for audit in AUDITS}
TABLES = {table.name: table for table in PUBLISHED}
REFERENCES = {audit.name for audit in AUDITS if audit.name.endswith("_resolves")}
UNKNOWN = "'00000000-0000-0000-0000-000000000000'"
NOBODY = "'ffffffff-0000-0000-0000-000000000000'"


@dataclass(frozen=True)
class Breakage:
    """What breaks `check` and, by the same statement, the checks `also`.

    `into`: the SQL runs in staging, in what production publishes now, or in the candidate after a table was copied
    there, which stands for whatever may spoil a copy.
    """

    check: str
    sql: str
    also: frozenset[str] = frozenset()
    into: Literal["staging", "current", "candidate"] = "staging"

    @property
    def fails(self) -> frozenset[str]:
        return self.also | {self.check}


def _one(table: str, condition: str = "true") -> str:
    """A condition that one row of the table meets."""
    return f"ctid = (SELECT ctid FROM {table} WHERE {condition} ORDER BY ctid LIMIT 1)"


def _breakage(key: dg.AssetCheckKey) -> Breakage:
    """What breaks a check; fails the test if nothing is known to."""
    layer, table = key.asset_key.path
    found = {
        "raw_shop": _raw_breakage,
        "raw_catalog": _raw_breakage,
        "staging": _staging_breakage,
        "warehouse": _warehouse_breakage,
        "production": _audit_breakage,
    }[layer](key.name, layer, table)
    if found is None:
        pytest.fail(f"Nothing is known that breaks {key.to_user_string()}: add it here.")
    statement, *more = found
    also, into = (*more, (), "staging")[:2] if len(more) < 2 else more
    return Breakage(key.to_user_string(), statement, frozenset(also), into)

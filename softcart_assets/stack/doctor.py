"""Finds what is missing or wrong on this machine, and says what to do about it.

It checks what a person would check by hand before suspecting the code. It changes and starts
nothing. `./bootstrap.sh doctor` comes before: it checks what this program itself needs.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pyspark
from pyarrow import fs

from softcart_assets.connections import (
    EXTRACTS,
    METASTORE,
    PRODUCTION_MYSQL,
    PRODUCTION_MYSQL_READER,
    MySQLConnection,
    PostgresConnection,
    ServerUnreachable,
    SettingError,
    has_production_mysql,
    is_local,
    setting,
)
from softcart_assets.findings import Finding
from softcart_assets.ingestion.connectors import connector
from softcart_assets.lake.table import LakeTable
from softcart_assets.lines.model import Source
from softcart_assets.paths import local_lake
from softcart_assets.stack.metastore import Metastore
from softcart_assets.stack.postgres import WAREHOUSES, Postgres, shed_root
from softcart_assets.stack.server import Server, StackError
from softcart_assets.stack.stack import Stack
from softcart_assets.stores import (
    LAKE,
    LAKE_PREFIX,
    local_folder,
    reason_without_keys,
    without_keys,
)
from spark.session import DEFAULT_MEMORY, MASTER, MEMORY, spark_conf

GIB = 2**30
DISK_BYTES = 5 * GIB
"""Twice the disk space of the default demo and its servers."""
MEMORY_BYTES = 6 * GIB
"""The memory that the default demo and its servers may take."""


def examine(stack: Stack) -> Iterator[Finding]:
    """Check everything, the cheapest first. The environment must have the settings of the servers.

    Local servers that are stopped are not asked: that they cannot be reached is no mistake.
    """
    yield Finding("ok", f"Python: {sys.executable}, {platform.python_version()}")
    yield _java()
    yield from _browser()
    yield from _spark()
    yield from _disk(stack)
    yield _memory()
    stopped: set[str] = set()
    for server in stack.servers():
        if local := stack.local_prefixes(server):
            running = server.process() is not None
            yield _local_server(server, running)
            if not running:
                stopped |= set(local)
    if LAKE_PREFIX not in stopped:
        yield from _lake(stack)
    for source in stack.sources:
        if source.env_prefix not in stopped:
            yield from _database(source.env_prefix, partial(_source, source))
    for prefix in WAREHOUSES:
        if prefix not in stopped:
            yield from _database(prefix, _postgres)
    if has_production_mysql() and PRODUCTION_MYSQL not in stopped:
        yield from _database(PRODUCTION_MYSQL, _production_mysql)


def _local_server(server: Server, running: bool) -> Finding:
    try:
        product, program = server.product
        if isinstance(server, Postgres):
            shed_root()
    except StackError as error:
        # Only queries need a metastore.
        return Finding("note" if isinstance(server, Metastore) else "blocks", str(error))
    state = "runs" if running else "does not run (`make up` starts it)"
    return Finding("ok", f"{server.title}: {product}, {program}, {state}")


def _java() -> Finding:
    home = os.environ.get("JAVA_HOME")
    java = f"{home}/bin/java" if home else "java"
    remedy = (
        "Spark needs Java 17 or newer: install Debian's openjdk-17-jre-headless or set JAVA_HOME."
    )
    try:
        output = subprocess.run(
            [java, "-version"], capture_output=True, text=True, check=True
        ).stderr
    except (OSError, subprocess.CalledProcessError) as error:
        return Finding("blocks", f"Java: `{java} -version` does not work ({error}). {remedy}")
    version = re.search(r'version "(\d+)[^"]*"', output)
    if not version or int(version[1]) < 17:
        return Finding("blocks", f"Java: {java} is {output.splitlines()[0]}. {remedy}")
    return Finding("ok", f"Java: {shutil.which(java)}, {version[0]}")


def _browser() -> Iterator[Finding]:
    for program, package in (("chromium", "chromium"), ("chromedriver", "chromium-driver")):
        if found := shutil.which(program):
            yield Finding("ok", f"Browser: {found}")
        else:
            yield Finding(
                "note", f"Browser: no {program}. Only the tests need it (Debian package {package})."
            )


def _spark() -> Iterator[Finding]:
    try:
        conf = spark_conf("doctor", os.environ)
    except SettingError as error:
        yield Finding("blocks", f"Spark: {error}")
        return
    master = conf["spark.master"]
    text = f"Spark: {pyspark.__version__}, {master}, {conf['spark.driver.memory']} for the driver"
    if master.startswith("spark://"):
        addresses = master.removeprefix("spark://").split(",")
        # Any of them will do: the others stand by.
        refused = [reason for each in addresses if (reason := _silent(each))]
        if len(refused) == len(addresses):
            yield Finding("blocks", f"Spark: {'. '.join(refused)}. Check {MASTER}.")
            return
    elif master == "yarn" and not any(map(os.environ.get, ("HADOOP_CONF_DIR", "YARN_CONF_DIR"))):
        yield Finding("blocks", f"Spark: {MASTER}=yarn needs HADOOP_CONF_DIR. Set it in the shell.")
        return
    elif master != "yarn" and not re.fullmatch(r"local(\[(\d+|\*)(,\d+)?\])?", master):
        known = "local[*], spark://host:port or yarn"
        yield Finding("blocks", f"Spark: {MASTER} must be {known}, not {master!r}.")
        return
    yield Finding("ok", text)


def _lake(stack: Stack) -> Iterator[Finding]:
    uri = os.environ.get(LAKE) or local_lake(stack.home)
    shown = without_keys(uri)
    table = LakeTable(uri, "doctor", "doctor")
    try:
        # An empty list is as good as a full one.
        table.store.get_file_info(fs.FileSelector("", allow_not_found=True))
    except (ServerUnreachable, SettingError) as error:
        yield Finding("blocks", f"Lake: {error}")
        return
    except OSError as error:
        told = reason_without_keys(uri, error)
        yield Finding("blocks", f"Lake: {shown} cannot be read: {told}. Check {LAKE}.")
        return
    yield Finding("ok", f"Lake: {shown}")
    address = os.environ.get(f"{METASTORE}_URI", "")
    if address and not is_local(METASTORE) and (reason := _silent(address)):
        yield Finding("note", f"Lake: {reason}. Check {METASTORE}_URI. Only queries need it.")


def _silent(address: str) -> str | None:
    """Why nobody can be reached at `host:port` or a URL with one. None: somebody can."""
    parts = urlsplit(address if "//" in address else f"//{address}")
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=5):
            return None
    except (OSError, ValueError) as error:
        return f"{address} cannot be reached: {error}"


def _folders(stack: Stack) -> Iterator[tuple[str, Path]]:
    """The folders that are written to, after the names of their settings."""
    yield "SOFTCART_HOME", stack.home
    # By default, both are in the home.
    if not is_local("SOFTCART_LAKE") and (folder := local_folder(os.environ.get(LAKE, ""))):
        yield LAKE, folder
    if not is_local("SOFTCART_EXTRACTS") and (path := os.environ.get(EXTRACTS)):
        yield EXTRACTS, Path(path)
    # Spark puts there what does not fit into its memory.
    yield "TMPDIR", Path(tempfile.gettempdir())


def _disk(stack: Stack) -> Iterator[Finding]:
    disks: dict[int, dict[Path, str]] = {}
    for name, folder in _folders(stack):
        # Not `Path.exists`, which raises an error where we may not look.
        there = next(path for path in (folder, *folder.parents) if os.path.exists(path))
        # Root may write everywhere, but /proc and the like hold no files.
        holds_files = there.is_dir() and shutil.disk_usage(there).total
        if not holds_files or not os.access(there, os.W_OK | os.X_OK):
            yield Finding(
                "blocks",
                f"Disk: {folder} cannot be used, because {there} is not writable. Set {name} to a "
                "folder that is.",
            )
            continue
        folders = disks.setdefault(there.stat().st_dev, {})
        if not any(folder.is_relative_to(each) for each in folders):
            folders[folder] = name
    for folders in disks.values():
        first = next(iter(folders))
        there = next(path for path in (first, *first.parents) if os.path.exists(path))
        free = shutil.disk_usage(there).free
        text = f"Disk: {free / GIB:.1f} GiB free for {', '.join(map(str, folders))}"
        if free < DISK_BYTES:
            text += f". The demo may need {DISK_BYTES / GIB:.0f}. Make room, or set "
            text += f"{' and '.join(folders.values())} to a folder on another disk."
        yield Finding("note" if free < DISK_BYTES else "ok", text)


def _memory() -> Finding:
    available = psutil.virtual_memory().available
    text = f"Memory: {available / GIB:.1f} GiB available"
    if available < MEMORY_BYTES:
        return Finding(
            "note",
            f"{text}. The demo may need {MEMORY_BYTES / GIB:.0f}. "
            f"Set {MEMORY} to less than {DEFAULT_MEMORY} to save some.",
        )
    return Finding("ok", text)


def _database(prefix: str, look: Callable[[str], Iterator[Finding]]) -> Iterator[Finding]:
    """Connect with the settings of this prefix and check our privileges there."""
    try:
        yield from look(prefix)
    except (SettingError, ServerUnreachable) as error:
        yield Finding("blocks", f"{prefix}: {error}")


def _source(source: Source, prefix: str) -> Iterator[Finding]:
    kind = connector(source.kind)
    connection = kind.connection(prefix)
    yield from kind.examine(source, connection)
    yield from _exposed(prefix, connection.exposure)


def _exposed(prefix: str, exposure: str | None) -> Iterator[Finding]:
    if exposure:
        yield Finding("note", f"{prefix}: {exposure}")


def _postgres(prefix: str) -> Iterator[Finding]:
    connection = PostgresConnection.from_env(prefix)
    user, database = connection.user, connection.database
    # Dagster makes its tables in the schema `public`, and the warehouses have schemas of their own.
    has_tables = prefix == "SOFTCART_DAGSTER"
    with connection.connect() as client:
        version, *may_create = client.execute(
            "SELECT current_setting('server_version'),"
            " has_database_privilege(current_database(), 'CREATE'),"
            # Not by its name: it may have been dropped.
            " EXISTS (SELECT FROM pg_namespace WHERE nspname = 'public'"
            " AND has_schema_privilege(oid, 'CREATE'))"
        ).fetchone() or ("", False, False)
    if may_create[has_tables]:
        yield Finding("ok", f"{prefix}: {user} reaches PostgreSQL {version}")
    elif has_tables:
        yield Finding(
            "blocks",
            f"{prefix}: {user} may not create tables in the schema public of database {database}. "
            f'Run GRANT CREATE ON SCHEMA public TO "{user}" there.',
        )
    else:
        yield Finding(
            "blocks",
            f"{prefix}: {user} may not create schemas. Run "
            f'GRANT CREATE ON DATABASE "{database}" TO "{user}".',
        )
    yield from _exposed(prefix, connection.exposure)


def _production_mysql(prefix: str) -> Iterator[Finding]:
    connection = MySQLConnection.from_env(prefix)
    user, database = connection.user, connection.database
    needed = {"SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER", "INDEX"}
    needed |= {"CREATE VIEW", "SHOW VIEW", "CREATE TEMPORARY TABLES"}
    with closing(connection.connect()) as session, session.cursor() as cursor:
        cursor.execute("SELECT VERSION()")
        ((version,),) = cursor.fetchall()
        cursor.execute(
            "SELECT privilege_type, is_grantable FROM information_schema.user_privileges WHERE"
            " REPLACE(grantee, '''', '') = CURRENT_USER() UNION ALL SELECT privilege_type,"
            " is_grantable FROM information_schema.schema_privileges WHERE"
            " REPLACE(grantee, '''', '') = CURRENT_USER()"
            " AND DATABASE() LIKE table_schema"
        )
        granted = dict(cursor.fetchall())
    if missing := sorted(needed - granted.keys()):
        yield Finding(
            "blocks",
            f"{prefix}: {user} may not {', '.join(missing)}. Run GRANT ALL ON `{database}`.* TO "
            f"'{user}'.",
        )
    else:
        yield Finding("ok", f"{prefix}: {user} reaches MySQL {version}")
    if setting(PRODUCTION_MYSQL_READER, "") and granted.get("SELECT") != "YES":
        yield Finding(
            "note",
            f"{prefix}: {user} may not let others read. Run GRANT ALL ON `{database}`.* TO "
            f"'{user}' WITH GRANT OPTION.",
        )
    yield from _exposed(prefix, connection.exposure)

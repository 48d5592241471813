"""Finds what is missing or wrong on this machine, and says what to do about it.

It checks what a person would check by hand before suspecting the code. It changes and starts
nothing.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial

import psutil

from softcart_assets.connections import PostgresConnection, ServerUnreachable, SettingError
from softcart_assets.findings import Finding
from softcart_assets.ingestion.connectors import connector
from softcart_assets.lines.model import Source
from softcart_assets.stack.metastore import Metastore
from softcart_assets.stack.postgres import WAREHOUSES, Postgres, shed_root
from softcart_assets.stack.server import Server, StackError
from softcart_assets.stack.stack import Stack

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
    yield from _space(stack)
    stopped: set[str] = set()
    for server in stack.servers():
        if local := stack.local_prefixes(server):
            running = server.process() is not None
            yield _local_server(server, running)
            if not running:
                stopped |= set(local)
    for source in stack.sources:
        if source.env_prefix not in stopped:
            yield from _database(source.env_prefix, partial(_source, source))
    for prefix in WAREHOUSES:
        if prefix not in stopped:
            yield from _database(prefix, _postgres)


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


def _space(stack: Stack) -> Iterator[Finding]:
    folder = next(path for path in (stack.home, *stack.home.parents) if path.exists())
    if not os.access(folder, os.W_OK):
        yield Finding(
            "blocks", f"Disk: {folder} is not writable. Set SOFTCART_HOME to a folder that is."
        )
    free = shutil.disk_usage(folder).free
    text = f"Disk: {free / GIB:.1f} GiB free for {stack.home}"
    if free < DISK_BYTES:
        yield Finding(
            "note",
            f"{text}. The demo may need {DISK_BYTES / GIB:.0f}. SOFTCART_HOME can be elsewhere.",
        )
    else:
        yield Finding("ok", text)
    available = psutil.virtual_memory().available
    text = f"Memory: {available / GIB:.1f} GiB available"
    if available < MEMORY_BYTES:
        yield Finding(
            "note",
            f"{text}. The demo may need {MEMORY_BYTES / GIB:.0f}. "
            "Set SOFTCART_SPARK_MEMORY to less than 2g to save some.",
        )
    else:
        yield Finding("ok", text)


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

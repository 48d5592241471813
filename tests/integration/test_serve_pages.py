"""`softcart serve pages` as a process: another user of this machine reads what only its owner may
open, and it ends at once.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
from support.ingestion import fill, incremental, load_all, query, run, source_of

from softcart_assets.assembly import LINES
from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.paths import REPOSITORY
from softcart_assets.stack import Stack
from softcart_assets.stack.pages import State, state_of
from softcart_assets.stack.server import free_port

NOBODY = 65534


def test_another_user_reads_a_private_page_and_the_server_ends_at_once(
    stack: Stack, tmp_path: Path
) -> None:
    name = f"{LINES.dashboards[0].name}.html"
    folder, port = tmp_path / "extracts", free_port()
    folder.mkdir(mode=0o700)
    (folder / name).write_text("the page")
    curl = shutil.which("curl")
    if os.geteuid() or curl is None:
        pytest.skip("only root may become another user, and this needs curl")
    server = psutil.Popen(
        [REPOSITORY / ".venv" / "bin" / "softcart", "serve", "pages", f"--port={port}"],
        env=os.environ | {"SOFTCART_EXTRACTS_DIR": str(folder), "SOFTCART_HOME": str(stack.home)},
        cwd=REPOSITORY,
    )
    try:
        address, deadline = f"http://127.0.0.1:{port}/", time.monotonic() + 60
        while True:
            try:
                listed = urllib.request.urlopen(address, timeout=5).read().decode()
                break
            except OSError:
                assert time.monotonic() < deadline
                assert server.poll() is None
                time.sleep(0.1)
        assert name in listed
        # As nobody, the file itself cannot be opened.
        assert subprocess.run(["cat", folder / name], user=NOBODY, capture_output=True).returncode
        read = subprocess.run(
            [curl, "-s", address + name], user=NOBODY, capture_output=True, text=True, check=True
        )
        assert read.stdout == "the page"
        server.send_signal(signal.SIGTERM)
        assert server.wait(2) in (0, -signal.SIGTERM)
    finally:
        if server.is_running():
            server.kill()


def test_the_state_is_that_of_the_last_load_and_of_open_entries(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    run(mysql, "CREATE TABLE items (id INT PRIMARY KEY, updated_at DATETIME(6))")
    fill(mysql, "items", [(1, "2026-03-01")])
    load_all(source_of(incremental("items", "id")), mysql, postgres, lake)
    [(loaded,)] = query(postgres, "SELECT max(loaded_at) FROM ingestion.loads")
    assert state_of(postgres) == State({"t": loaded}, {})
    with postgres.connect() as session:
        for number, closed in enumerate((None, None, loaded)):
            session.execute(
                "INSERT INTO ingestion.quarantine (load_id, source, table_name, identity, row,"
                " column_name, reason, position, quarantined_at, closed_at)"
                " VALUES ('l', 't', 'items', %s, '{}', 'id', 'r', 'p', now(), %s)",
                [str(number), closed],
            )
    assert state_of(postgres).quarantined == {"t.items": 2}

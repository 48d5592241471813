"""`softcart serve pages` as a process: another user of this machine reads what only its owner may
open, and it ends at once.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psycopg
import pytest
from selenium.webdriver.common.by import By
from support.browser import chromium
from support.ingestion import fill, incremental, load_all, query, run, source_of
from support.served import NOBODY, as_nobody, served

from softcart_assets.assembly import LINES
from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.pages.kit import STATE_MARK
from softcart_assets.pages.server import State, state_of
from softcart_assets.stack import Stack

PAGE, EXTRACT = f"{LINES.dashboards[0].name}.html", f"{LINES.extracts[0].name}.csv"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What only its owner may open."""
    folder = tmp_path / "extracts"
    folder.mkdir(mode=0o700)
    (folder / PAGE).write_text(
        "<!doctype html><title>the page</title><link rel=icon href=data:,>"
        f"<body><header>{STATE_MARK}</header></body>"
    )
    (folder / EXTRACT).write_text("a,b\n1,2\n")
    (folder / "notes.csv").write_text("private")
    return folder


def test_another_user_reads_a_private_page_and_the_server_ends_at_once(
    stack: Stack, folder: Path
) -> None:
    with served(stack, folder) as (server, address):
        # As nobody, the file itself cannot be opened.
        assert as_nobody("cat", folder / EXTRACT).returncode
        assert as_nobody("curl", "-s", address + EXTRACT).stdout == "a,b\n1,2\n"
        assert "<title>the page" in as_nobody("curl", "-s", address + PAGE).stdout
        for path in ("notes.csv", "../extracts/notes.csv", "%2e%2e/extracts/notes.csv"):
            told = as_nobody("curl", "-s", "--path-as-is", address + path).stdout
            assert told == "Not Found"
        server.send_signal(signal.SIGTERM)
        assert server.wait(2) in (0, -signal.SIGTERM)


def test_another_user_logs_in_with_a_browser(stack: Stack, folder: Path) -> None:
    with (
        served(stack, folder, SOFTCART_PAGES_PASSWORD="open sesame") as (_, address),
        chromium(user=NOBODY) as browser,
    ):
        assert os.stat(f"/proc/{browser.service.process.pid}").st_uid == NOBODY
        browser.get((folder / PAGE).as_uri())
        assert "the page" not in browser.title
        browser.get(address)
        assert PAGE not in browser.page_source
        browser.get(address.replace("//", "//softcart:wrong@"))
        assert PAGE not in browser.page_source
        browser.get(address.replace("//", "//softcart:open%20sesame@"))
        assert browser.title == "SoftCart: pages and extracts"
        # The browser sends the login along from now on.
        browser.find_element(By.LINK_TEXT, PAGE).click()
        assert browser.title == "the page"
        assert browser.find_element(By.ID, "state").text
        browser.get(address + PAGE)
        read = "return fetch(arguments[0]).then((answer) => answer.text())"
        assert browser.execute_script(read, EXTRACT) == "a,b\n1,2\n"
        told = [entry["message"] for entry in browser.get_log("browser")]
        assert [line for line in told if "401" not in line] == []


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
    with postgres.connect() as other:
        # As an upgrade of the table takes it.
        other.execute("LOCK TABLE ingestion.quarantine")
        with pytest.raises(psycopg.errors.QueryCanceled):
            state_of(postgres)

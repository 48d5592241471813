"""The Dagster UI answers its own pages and nobody else's. The attacks run against the real server.

Until 2b4cd81 a page of any site could start a run with a configuration of its own, by GET.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote

import psutil
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from support.browser import chromium
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from softcart_assets.paths import REPOSITORY
from softcart_assets.stack import Stack
from softcart_assets.stack.server import alive_after, free_port

JSON = {"Content-Type": "application/json"}
EVIL = "http://evil.example"
LOCATION = '''
import time
from pathlib import Path
import dagster as dg

@dg.op
def wait(context):
    """Logs one line before the file appears, and one after it."""
    context.log.info("first line")
    while not Path({file!r}).exists():
        time.sleep(0.1)
    context.log.info("second line, come by itself")

@dg.job(executor_def=dg.in_process_executor)
def steal():
    wait()

defs = dg.Definitions(jobs=[steal])
'''
SELECTOR = {
    "repositoryLocationName": "location.py",
    "repositoryName": "__repository__",
    "pipelineName": "steal",
}
LAUNCH = """
mutation Launch($selector: JobOrPipelineSelector!) {
  launchPipelineExecution(
    executionParams: {selector: $selector, mode: "default", runConfigData: {}}
  ) { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } }
}"""
# Of our job only: what other tests have run is in the same storage.
RUNS = """
query {
  runsOrError(filter: {pipelineName: "steal"}) { ... on Runs { results { runId status } } }
}"""


@dataclass(frozen=True)
class UI:
    """A running UI, and the file for which the job waits."""

    port: int
    file: Path

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
        """The status and text of an answer. Underscores in names of headers stand for hyphens."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.origin + path, data, named, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()

    def graphql(self, query: str, **variables: Any) -> Any:
        """The answer to the UI's own page."""
        status, text = self.ask(
            "POST",
            "/graphql?op=Any",
            {"query": query, "variables": variables},
            Content_Type="application/json",
            Origin=self.origin,
            Sec_Fetch_Site="same-origin",
        )
        assert status == 200, text
        return json.loads(text)["data"]

    def runs(self) -> dict[str, str]:
        return {run["runId"]: run["status"] for run in self.graphql(RUNS)["runsOrError"]["results"]}

    def launch(self) -> str:
        return self.graphql(LAUNCH, selector=SELECTOR)["launchPipelineExecution"]["run"]["runId"]


def until(what: str, condition: Callable[[], Any], seconds: float = 90) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.2)
    return found


def answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=5).close()
    except HTTPError:
        return True
    except OSError:
        return False
    return True


@contextmanager
def started(program: str, port: int, **settings: str) -> Iterator[psutil.Popen]:
    """A Python program that serves a UI there, from its first answer on."""
    command = psutil.Popen(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env=os.environ | settings,
        stdout=subprocess.DEVNULL,
    )
    try:
        until("the webserver does not answer", lambda: command.poll() is not None or answers(port))
        assert command.poll() is None
        yield command
    finally:
        if command.poll() is None:
            command.send_signal(signal.SIGTERM)
            command.wait(60)


@pytest.fixture(scope="module")
def ui(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[UI]:
    """What `softcart ui` serves, with one job."""
    folder, port = tmp_path_factory.mktemp("location"), free_port()
    found = UI(port, folder / "go on")
    (folder / "location.py").write_text(LOCATION.format(file=str(found.file)))
    (folder / "workspace.yaml").write_text("load_from: [{python_file: location.py}]\n")
    with started(serving(folder, port), port):
        yield found


def serving(folder: Path, port: int) -> str:
    """A program that does what `softcart ui` does, with the workspace in this folder."""
    return (
        "from pathlib import Path; from softcart_assets.stack.ui import serve; "
        f"raise SystemExit(serve(Path({str(folder)!r}), {port}))"
    )


def test_a_mutation_by_get_is_not_run(ui: UI) -> None:
    variables = quote(json.dumps({"selector": SELECTOR}))
    for path in ("/graphql", "/graphql/", "//graphql"):
        status, text = ui.ask("GET", f"{path}?query={quote(LAUNCH)}&variables={variables}")
        assert (status, "by POST only" in text) == (405, True) or "<html" in text
    assert ui.ask("GET", f"/graphql?query={quote(RUNS)}")[0] == 405
    assert ui.ask("HEAD", f"/graphql?query={quote(RUNS)}")[0] == 405
    assert ui.runs() == {}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (JSON | {"Origin": EVIL}, 403),
        (JSON | {"Origin": "null"}, 403),
        (JSON | {"Origin": "http://127.0.0.1:1"}, 403),  # another program on this machine
        (JSON | {"Sec-Fetch-Site": "cross-site"}, 403),
        (JSON | {"Sec-Fetch-Site": "same-site"}, 403),
        (JSON | {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403),
        (JSON | {"Host": "evil.example"}, 421),
        (JSON | {"Host": "127.0.0.1.evil.example", "Origin": EVIL}, 421),
        (JSON | {"Host": "[::1"}, 421),
        # What a form may send without asking first.
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "application/graphql"}, 415),
        ({"Content-Type": "text/plain; application/json"}, 415),
    ],
)
def test_a_request_of_another_page_is_refused(ui: UI, headers: dict[str, str], status: int) -> None:
    body = {"query": LAUNCH, "variables": {"selector": SELECTOR}}
    assert ui.ask("POST", "/graphql", body, **headers)[0] == status
    assert ui.runs() == {}


def test_other_pages_report_nothing_and_read_nothing(ui: UI) -> None:
    report = "/report_asset_materialization/raw_shop/orders"
    assert ui.ask("POST", report, b"", Origin=EVIL)[0] == 403
    for path in ("/", "/server_info", "/logs/x/compute_logs/y.err", "/graphql"):
        assert ui.ask("GET", path, Host="evil.example:80")[0] == 421
        assert ui.ask("GET", path, Origin=EVIL)[0] == 403
        assert ui.ask("GET", path, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="cors")[0] == 403
    # But a link in a mail leads to the UI.
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert ui.ask("GET", "/runs", **link, Sec_Fetch_Dest="document")[0] == 200
    assert ui.ask("GET", "/runs", **link, Sec_Fetch_Dest="iframe")[0] == 403
    with urllib.request.urlopen(f"{ui.origin}/runs", timeout=30) as answer:
        assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"


def test_the_way_out_of_an_unknown_host_is_told(ui: UI) -> None:
    _, text = ui.ask("GET", "/", Host="dagster.example.com")
    assert text == (
        "This server is not dagster.example.com. If it is, add the name to SOFTCART_UI_HOSTS and "
        "start the server again.\n"
    )


def subscribed(ui: UI, **headers: Any) -> dict[str, Any]:
    """The answer to a handshake over a websocket."""
    address = f"ws://127.0.0.1:{ui.port}/graphql"
    with connect(address, subprotocols=["graphql-ws"], **headers) as socket:
        socket.send(json.dumps({"type": "connection_init"}))
        return json.loads(socket.recv(timeout=30))


def test_subscriptions_are_for_own_pages_only(ui: UI) -> None:
    assert subscribed(ui, origin=ui.origin) == {"type": "connection_ack"}
    for headers in (
        {"origin": EVIL},
        {"origin": "null"},
        {"additional_headers": {"Sec-Fetch-Site": "cross-site"}},
    ):
        with pytest.raises(InvalidStatus) as refused:
            subscribed(ui, **headers)
        assert refused.value.response.status_code == 403


def test_hosts_and_a_login_are_set_by_settings(stack: Stack, tmp_path: Path) -> None:
    """The webserver alone, as Docker Compose runs it. The password has letters beyond ASCII."""
    found = UI(free_port(), tmp_path)
    arguments = ["webserver", "-h", "127.0.0.1", "-p", str(found.port), "--empty-workspace"]
    program = (
        f"import sys; sys.argv = {arguments!r}; from softcart_assets.stack.webserver import main; "
        "main()"
    )
    settings = {
        "SOFTCART_UI_HOSTS": "Dagster.example.com, other.example",
        "SOFTCART_UI_PASSWORD": "geheim: ü€😀",
    }
    right = "Basic c29mdGNhcnQ6Z2VoZWltOiDDvOKCrPCfmIA="
    with started(program, found.port, **settings):
        for host in ("dagster.example.com", "OTHER.example:443", f"localhost:{found.port}"):
            assert found.ask("GET", "/", Host=host, Authorization=right)[0] == 200
        assert found.ask("GET", "/", Host="dagster.example.net", Authorization=right)[0] == 421
        own = {"Origin": "https://other.example", "Host": "other.example", **JSON}
        asked = {"query": "{ version }"}
        assert found.ask("POST", "/graphql", asked, Authorization=right, **own)[0] == 200
        # The right name and password do not help a page of another site.
        stolen = own | {"Origin": EVIL}
        assert found.ask("POST", "/graphql", asked, Authorization=right, **stolen)[0] == 403
        for wrong in ({}, {"Authorization": "Basic c29mdGNhcnQ6"}, {"Authorization": "Bearer x"}):
            for path in ("/", "/server_info", "/graphql", "/logs/x/y.err"):
                assert found.ask("GET", path, **wrong)[0] == 401
        with pytest.raises(InvalidStatus):
            subscribed(found, origin=found.origin)
        logged_in = {"Authorization": right}
        ack = subscribed(found, origin=found.origin, additional_headers=logged_in)
        assert ack == {"type": "connection_ack"}


def test_it_ends_within_seconds_although_a_browser_listens(stack: Stack, tmp_path: Path) -> None:
    """The webserver waited for the browser's connection, and the command 15 s for the webserver."""
    port, home = free_port(), tmp_path / "home"
    home.mkdir()
    (tmp_path / "location.py").write_text(LOCATION.format(file=str(tmp_path / "go on")))
    (tmp_path / "workspace.yaml").write_text("load_from: [{python_file: location.py}]\n")
    address = f"ws://127.0.0.1:{port}/graphql"
    # With a home of its own, because one UI at a time serves a home.
    with (
        started(serving(tmp_path, port), port, DAGSTER_HOME=str(home)) as command,
        connect(address, subprotocols=["graphql-ws"]) as socket,
    ):
        socket.send(json.dumps({"type": "connection_init"}))
        socket.recv(timeout=30)
        [leader] = command.children()
        processes = [leader, *leader.children(recursive=True)]
        assert len(processes) >= 4  # `dagster dev`, webserver, daemon, code server
        begun = time.monotonic()
        command.send_signal(signal.SIGTERM)
        assert command.wait(30) == 0
        # Two on a machine that does nothing else.
        assert time.monotonic() - begun < 5
        assert alive_after(processes, 1) == []


PAGE = """<!doctype html><title>prizes</title><script>
  const mutation = `{query}`, variables = JSON.stringify({variables});
  const url = "{origin}/graphql";
  const query = new URLSearchParams({{query: mutation, variables}});
  const told = [];
  const tries = [
    fetch(`${{url}}?${{query}}`, {{mode: "no-cors", credentials: "include"}}),
    fetch(url, {{method: "POST", mode: "no-cors", body: query}}),
    fetch(`${{url}}?${{query}}`, {{method: "POST", mode: "no-cors"}}),
    fetch(url, {{method: "POST", headers: {{"Content-Type": "application/json"}},
      body: JSON.stringify({{query: mutation, variables}})}}),
    new Promise((resolve, reject) => {{
      const socket = new WebSocket(url.replace("http", "ws"), "graphql-ws");
      socket.onopen = () => resolve("open");
      socket.onerror = () => reject("closed");
    }}),
  ];
  for (const one of tries) one.then((a) => told.push(a.type || a), (e) => told.push("failed"));
  Promise.allSettled(tries).then(() => {{ document.title = told.sort().join(); }});
</script>"""


@contextmanager
def page(html: str) -> Iterator[int]:
    """A web server of somebody else's, with one page. Gives its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, *_: Any) -> None:
            pass

    with closing(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        server.close = server.server_close  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_a_page_in_the_same_browser_starts_nothing(ui: UI) -> None:
    """From another site, from another port of this machine, and by a name that leads here."""
    before = ui.runs()
    variables = json.dumps({"selector": SELECTOR})
    attack = PAGE.format(query=LAUNCH, variables=variables, origin=ui.origin)
    with chromium("host-resolver-rules=MAP *.example 127.0.0.1") as browser, page(attack) as port:
        for address in (f"{EVIL}:{port}", f"http://127.0.0.1:{port}"):
            browser.get(address)
            WebDriverWait(browser, 60).until(lambda driver: driver.title != "prizes")
            # `opaque`: an answer that the page cannot look into, here a refusal.
            assert browser.title == "failed,failed,opaque,opaque,opaque"
        browser.get(f"{EVIL}:{ui.port}/runs")
        assert "This server is not evil.example" in browser.find_element(By.TAG_NAME, "body").text
    assert ui.runs() == before


def test_the_ui_works_in_a_browser_and_shows_what_happens(ui: UI) -> None:
    """A run's log comes over a websocket, without a reload."""
    run_id = ui.launch()
    until("the run does not start", lambda: ui.runs()[run_id] == "STARTED")
    with chromium() as browser:
        browser.get(f"{ui.origin}/runs/{run_id}")

        def shows(text: str) -> Callable[[Any], bool]:
            return lambda driver: text in driver.find_element(By.TAG_NAME, "body").text

        WebDriverWait(browser, 60).until(shows("first line"))
        assert not shows("second line")(browser)
        ui.file.touch()
        WebDriverWait(browser, 60).until(shows("second line, come by itself"))
        events = [json.loads(each["message"])["message"] for each in browser.get_log("performance")]
    received = [
        event["params"]["response"]["payloadData"]
        for event in events
        if event["method"] == "Network.webSocketFrameReceived"
    ]
    assert any("second line, come by itself" in frame for frame in received)
    refused = [
        event["params"]["response"]["url"]
        for event in events
        if event["method"] == "Network.responseReceived"
        and event["params"]["response"]["status"] in (401, 403, 405, 415, 421)
    ]
    assert refused == []
    until("the run does not end", lambda: ui.runs()[run_id] == "SUCCESS")

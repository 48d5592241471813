"""The call centre's answers: how long a reader waits, while the stream follows.

    python -m benchmarks call_centre [--scale 1]

Calls and charges are written at a fixed rate, and two of four streams apply them. Meanwhile,
requests are sent at a fixed rate, each at its own time, whether the one before was answered or not.
The time of an answer counts from when the request was due, so a slow answer cannot thin out those
after it. `pgbench` sends the same statement at the same rate beside the same streams: the
difference is what HTTP, tokens and limits cost. At last, charges are made at the source, and asked
for until they are in an answer. Results go to `benchmarks/results/call_centre.md`.
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from benchmarks import rig
from benchmarks.ods import writer
from benchmarks.rig import Failed, Servers
from benchmarks.tables import make_numbers
from seed_data.common.mysql import statements
from softcart_assets.assembly import LINES
from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion.capture import stream
from softcart_assets.ingestion.load import LoadRequest, load
from softcart_assets.paths import REPOSITORY
from softcart_assets.serving import tokens
from softcart_assets.serving.asking import ready, statement
from softcart_assets.serving.desk import find
from softcart_assets.serving.server import serve
from softcart_assets.stack.server import free_port

LINE = LINES.line("telecom")
SOURCES = [source for source in LINE.sources if source.kind == "mysql"]
SUBSCRIBERS = 20_000
CALLS = 40
"""Calls of each subscriber that are there before."""
REQUESTS, CHANGES, SECONDS = 500, 5_000, 30
_TRANSACTIONS = 50
"""Transactions per second of each source."""
_CLIENTS = 16

_ROWS = {
    "crm": (
        "INSERT INTO plans VALUES (1, 'P', 'Plan', 'postpaid', 'EUR', 19.90, 100, 100, 1000, 1,"
        " now(), now())",
        "INSERT INTO customers (id, full_name, kind, country_code, created_at)"
        " SELECT n, concat('Customer ', n), 'private', 'DE', now() FROM numbers WHERE n <= {n}",
        "INSERT INTO subscribers (id, customer_id, account_id, msisdn, imsi, kind, state, plan_id,"
        " time_zone, activated_at) SELECT n, n, n, concat('4916', lpad(n, 8, '0')), n, 'postpaid',"
        " 'active', 1, 'Europe/Berlin', '2026-01-01' FROM numbers WHERE n <= {n}",
        "INSERT INTO complaints (customer_id, subscriber_id, category, state, opened_at)"
        " SELECT n, n, 'network', 'open', now() FROM numbers WHERE n <= {n} AND n % 10 = 0",
    ),
    "billing": (
        "INSERT INTO accounts (id, customer_id, currency, state, opened_at)"
        " SELECT n, n, 'EUR', 'open', '2026-01-01' FROM numbers WHERE n <= {n}",
        "INSERT INTO bill_cycles (account_id, cycle_day, time_zone)"
        " SELECT n, 1 + n % 28, 'Europe/Berlin' FROM numbers WHERE n <= {n}",
        "INSERT INTO credit_limits (account_id, limit_amount, currency)"
        " SELECT n, 100, 'EUR' FROM numbers WHERE n <= {n}",
        "INSERT INTO invoices (account_id, number, currency, period_start, period_end, issued_on,"
        " due_on, net_amount, tax_amount, total_amount, state) SELECT n, concat('B', n), 'EUR',"
        " '2026-01-01', '2026-02-01', '2026-02-04', '2026-02-28', 20, 3.8, 23.8, 'open'"
        " FROM numbers WHERE n <= {n}",
    ),
    "charging": (
        "INSERT INTO charges (subscriber_id, kind, quantity, amount, currency, event_at,"
        " recorded_at) SELECT 1 + n % {n}, 'voice', 1, 0.09, 'EUR', now(6) - INTERVAL n % 5000"
        " MINUTE, now(6) FROM numbers WHERE n <= {n} * {calls} / 4",
    ),
    "signaling": (
        "INSERT INTO call_records (event_id, subscriber_id, msisdn, direction, other_msisdn,"
        " started_at, duration_seconds, termination, cell_id, recorded_at) SELECT concat('o', n),"
        " 1 + n % {n}, '', if(n % 3, 'out', 'in'), '4915111111111', now(6) - INTERVAL n % 50000"
        " MINUTE, n % 600, 'normal', 1, now(6) FROM numbers WHERE n <= {n} * {calls}",
    ),
}
"""What is in the sources before, as SQL over `numbers`."""

_CHANGES = {
    "signaling": (
        4,
        "INSERT INTO call_records (event_id, subscriber_id, msisdn, direction, other_msisdn,"
        " started_at, duration_seconds, termination, cell_id, recorded_at) SELECT"
        " concat('n{batch}-', n), 1 + (n * 7919 + {batch} * 104729) % {n}, '', 'out',"
        " '4915111111111', now(6), n % 600, 'normal', 1, now(6) FROM numbers WHERE n <= {rows}",
    ),
    "charging": (
        1,
        "INSERT INTO charges (subscriber_id, kind, quantity, amount, currency, event_at,"
        " recorded_at) SELECT 1 + (n * 7919 + {batch} * 104729) % {n}, 'voice', 1, 0.09, 'EUR',"
        " now(6), now(6) FROM numbers WHERE n <= {rows}",
    ),
}
"""Source → its share of the changes in fifths, and a transaction of them."""


_PROBED = 4
_PROBE = (
    "INSERT INTO charges (subscriber_id, kind, quantity, amount, currency, event_at, recorded_at)"
    " VALUES ({subscriber}, 'voice', 1, 0.09, 'EUR', now(6), now(6))"
)


@dataclass(frozen=True)
class Measured:
    """How long answers took, in seconds. `cpu`: processor seconds of the server for all of them.
    `ages`: how old the answers were, in milliseconds.
    """

    way: str
    seconds: list[float]
    cpu: float
    rate: float
    changes: float
    ages: list[float]

    def row(self) -> str:
        """A line of the report."""
        cuts = statistics.quantiles(self.seconds, n=1000)
        told = [f"{cuts[n] * 1000:.1f}" for n in (499, 899, 989, 998)]
        ages = statistics.quantiles(self.ages, n=100) if self.ages else []
        age = f"{ages[49]:.0f} / {ages[98]:.0f}" if ages else ""
        cost = f"{self.cpu / len(self.seconds) * 1000:.2f}"
        return (
            f"| {self.way} | {self.rate:,.0f} | {self.changes:,.0f} | {' | '.join(told)} | {cost} |"
            f" {age} |"
        )


def _sources(servers: Servers, subscribers: int) -> dict[str, MySQLConnection]:
    """The four databases, filled."""
    found = {}
    for source in SOURCES:
        name = f"centre_{source.name}"
        with servers.mysql.connect() as session:
            session.query(f"DROP DATABASE IF EXISTS {name}")
        found[source.name] = servers.source(name)
        run = writer(found[source.name])
        run("SET sql_log_bin = 0")
        for text in statements(
            REPOSITORY / "seed_data" / LINE.name / f"{source.name}.sql"
        ).values():
            run(text)
        make_numbers(run, subscribers * CALLS)
        for text in _ROWS[source.name]:
            run(text.format(n=subscribers + _PROBED, calls=CALLS))
            run("COMMIT")
    return found


@contextmanager
def _streams(
    found: Mapping[str, MySQLConnection], target: PostgresConnection, lake: str
) -> Iterator[None]:
    """Follow the sources."""
    spawn = multiprocessing.get_context("spawn")
    processes = [
        spawn.Process(target=stream, args=(source, found[source.name], target, lake))
        for source in SOURCES
    ]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


class _Traffic:
    """Writes changes at a fixed rate until it is stopped."""

    def __init__(self, found: Mapping[str, MySQLConnection], subscribers: int) -> None:
        self.written = 0
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(found[name], subscribers, *change))
            for name, change in _CHANGES.items()
        ]

    def __enter__(self) -> _Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _write(self, source: MySQLConnection, subscribers: int, share: int, text: str) -> None:
        run = writer(source)
        rows = CHANGES * share // 5 // _TRANSACTIONS
        started, batch = time.monotonic(), 0
        # Different in each run, so that no event is told twice.
        first = int(time.time() * 1000) % 10**9
        while not self._stopped.is_set():
            run(text.format(n=subscribers, rows=rows, batch=first + batch))
            run("COMMIT")
            self.written += rows
            batch += 1
            time.sleep(max(started + batch / _TRANSACTIONS - time.monotonic(), 0))


def serve_here() -> None:
    """Run the server, in a process of its own, with its job in $JOB."""
    job = json.loads(os.environ["JOB"])
    target = PostgresConnection("SOFTCART_STAGING", **job["postgres"])
    serve(find([LINE.name]), target, "127.0.0.1", job["port"], job["workers"])


class _Asker:
    """Asks the server about subscribers, over one connection per thread."""

    def __init__(self, port: int, token: str) -> None:
        self._port, self._token = port, token
        self._local = threading.local()

    def __call__(self, subscriber: int) -> tuple[bytes, float]:
        """The answer and its age in milliseconds."""
        if not hasattr(self._local, "connection"):
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
            connection.connect()
            self._local.connection = connection
        self._local.connection.request(
            "POST",
            "/v1/caller",
            json.dumps({"msisdn": f"4916{subscriber:08}"}),
            {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )
        answer = self._local.connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise Failed(f"{answer.status}: {body.decode()}")
        return body, float(answer.headers["Age-Ms"] or "nan")


@contextmanager
def _served(target: PostgresConnection) -> Iterator[tuple[psutil.Popen, _Asker]]:
    """The server, from its first answer on."""
    port = free_port()
    parts = ("host", "port", "user", "password", "database")
    job = {"postgres": {part: getattr(target, part) for part in parts}, "port": port, "workers": 2}
    asker = _Asker(port, tokens.create(target, "bench", ["people:read"], "measuring", 10**9))
    server = psutil.Popen(
        [sys.executable, "-c", "from benchmarks.call_centre import serve_here; serve_here()"],
        env=os.environ | {"JOB": json.dumps(job)},
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                asker(1)
                break
            except OSError:
                if time.monotonic() > deadline or server.poll() is not None:
                    raise
                time.sleep(0.2)
        yield server, asker
    finally:
        server.terminate()
        server.wait()


def _caught_up(asker: _Asker) -> None:
    """Wait until all streams follow. MariaDB's log has whole seconds, so an age of two is young."""
    deadline = time.monotonic() + 120
    while not asker(1)[1] < 3000:
        if time.monotonic() > deadline:
            raise Failed("the streams do not keep up")
        time.sleep(0.5)


def _http(server: psutil.Popen, asker: _Asker, seconds: float, subscribers: int) -> Measured:
    """Send requests to the server."""
    ages: list[float] = []

    def ask() -> None:
        ages.append(asker(random.randint(1, subscribers))[1])

    _paced(ask, 3)
    ages.clear()
    before = rig.cpu_seconds(server)
    took = _paced(ask, seconds)
    cpu = rig.cpu_seconds(server) - before
    return Measured("HTTP, 2 processes", took, cpu, len(took) / seconds, 0, ages)


def _until_told(
    source: MySQLConnection, asker: _Asker, seconds: float, subscribers: int
) -> list[float]:
    """How long it takes from the commit of a charge until an answer has it. In seconds."""
    ends = time.monotonic() + seconds

    def probe(subscriber: int) -> list[float]:
        def charges() -> list[str]:
            told: list[str] = json.loads(asker(subscriber)[0])["caller"]["totals"]["life"][
                "charged"
            ]
            return told

        run, took = writer(source), []
        while time.monotonic() < ends:
            # Not in step with the traffic, nor with the stream.
            time.sleep(random.uniform(0, 0.2))
            before = charges()
            run(_PROBE.format(subscriber=subscriber))
            committed = time.monotonic()
            run("COMMIT")
            while charges() == before:
                if time.monotonic() > committed + 30:
                    raise Failed("a charge is not in the answer after 30 s")
                time.sleep(0.005)
            took.append(time.monotonic() - committed)
        return took

    # Subscribers whom the traffic leaves alone.
    probed = range(subscribers + 1, subscribers + _PROBED + 1)
    with ThreadPoolExecutor(_PROBED) as pool:
        return [each for found in pool.map(probe, probed) for each in found]


def _paced(ask: Callable[[], None], seconds: float) -> list[float]:
    """Ask at the fixed rate, each time when it is due. Returns how long each took from then on."""
    started = time.monotonic() + 0.2
    took: list[float] = []

    def client(number: int) -> None:
        for turn in range(number, int(REQUESTS * seconds), _CLIENTS):
            due = started + turn / REQUESTS
            time.sleep(max(due - time.monotonic(), 0))
            ask()
            took.append(time.monotonic() - due)

    with ThreadPoolExecutor(_CLIENTS) as pool:
        for each in [pool.submit(client, number) for number in range(_CLIENTS)]:
            each.result()
    return took


def _pgbench(
    servers: Servers,
    target: PostgresConnection,
    seconds: float,
    subscribers: int,
    *,
    noted: bool = True,
) -> Measured:
    """Send the same statement by pgbench, with the note of the look-up or without.

    Its times count from when a statement was due, too.
    """
    number = "('4916' || lpad((:n)::text, 8, '0'))"
    text = statement(find([LINE.name]), "number", noted=noted).replace("%(wanted)s", number)
    for name in ("token_id", "token_name", "resource", "purpose"):
        text = text.replace(f"%({name})s", "'bench'")
    program = Path(servers.processes[1].exe()).with_name("pgbench")
    environment = {
        "PGHOST": target.host,
        "PGPORT": str(target.port),
        "PGUSER": target.user,
        "PGPASSWORD": target.password,
        "PGDATABASE": target.database,
        "PGOPTIONS": "-c plan_cache_mode=force_generic_plan -c timezone=UTC",
    }
    with TemporaryDirectory() as folder:
        script = Path(folder) / "caller.sql"
        script.write_text(f"\\set n random(1, {subscribers})\n{text.strip()};\n")
        before = os.times()
        done = subprocess.run(
            [
                *(program, "-n", "-M", "prepared", "-f", script, "-l", "-c", "8"),
                *("-R", str(REQUESTS), "-T", str(int(seconds))),
            ],
            env=os.environ | environment,
            cwd=folder,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise Failed(done.stderr)
        after = os.times()
        cpu = after.children_user + after.children_system
        cpu -= before.children_user + before.children_system
        logs = [file.read_text() for file in Path(folder).glob("pgbench_log*")]
    # The third figure of a line: microseconds since the transaction was due.
    took = [int(line.split()[2]) / 1e6 for log in logs for line in log.splitlines()]
    way = "pgbench, 8 connections" if noted else "the same without the note, so without a commit"
    return Measured(way, took, cpu, len(took) / seconds, 0, [])


def _told(took: list[float], changes: float) -> list[str]:
    """The part of the report on how soon a change is in an answer."""
    cuts = [f"{cut * 1000:.0f}" for cut in statistics.quantiles(took, n=100)]
    return [
        "",
        f"From the commit of a charge at the source until the API's answer has it, at "
        f"{changes:,.0f} changes/s. {_PROBED} askers repeat their request every 5 ms:",
        "",
        "| charges | p50, ms | p90 | p99 | greatest |",
        "|---:|---:|---:|---:|---:|",
        f"| {len(took):,} | {cuts[49]} | {cuts[89]} | {cuts[98]} | {max(took) * 1000:.0f} |",
    ]


def run(servers: Servers, scale: float = 1, only: str = "", repeat: int = 1) -> None:
    """Measure and report."""
    subscribers = max(int(SUBSCRIBERS * scale), 100)
    seconds = max(int(SECONDS * min(scale, 1)), 5)
    found = _sources(servers, subscribers)
    target = servers.target("centre")
    lines = [
        "# The call centre's answers",
        "",
        f"Everything about one of {subscribers:,} callers, with the note of the look-up, beside "
        "four streams, two of which have changes. Times count from when a request was due. The "
        "processor time is that of the server's processes, or of pgbench; PostgreSQL's comes on top"
        " of both.",
        "",
        "| way | requests/s | changes/s | p50, ms | p90 | p99 | p99.9 | CPU ms per request | age of"
        " answers, ms: p50 / p99 |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    with TemporaryDirectory() as folder, ExitStack() as stack:
        lake = Path(folder).as_uri()
        for source in SOURCES:
            for _ in load(LoadRequest(source, found[source.name], target, lake, ask_after=None)):
                pass
        ready(target, find([LINE.name]))
        with target.connect(autocommit=True) as session:
            session.execute("ANALYZE")
        stack.enter_context(_streams(found, target, lake))
        traffic = stack.enter_context(_Traffic(found, subscribers))
        server, asker = stack.enter_context(_served(target))
        _caught_up(asker)
        measures: list[Callable[[], Measured]] = [
            lambda: _http(server, asker, seconds, subscribers),
            lambda: _pgbench(servers, target, seconds, subscribers),
            lambda: _pgbench(servers, target, seconds, subscribers, noted=False),
        ]
        for measure in measures:
            written, began = traffic.written, time.monotonic()
            measured = measure()
            changes = (traffic.written - written) / (time.monotonic() - began)
            lines.append(replace(measured, changes=changes).row())
            print(lines[-1], flush=True)
        written, began = traffic.written, time.monotonic()
        took = _until_told(found["charging"], asker, seconds, subscribers)
        changes = (traffic.written - written) / (time.monotonic() - began)
        lines += _told(took, changes)
        print(lines[-1], flush=True)
    servers.drop_target("centre")
    rig.write_result("call_centre", lines, servers)

"""Running totals by Spark from Debezium's topics equal those of our own stream after kills."""

from __future__ import annotations

import os
import random
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.ingestion import load_all, query, run
from support.totals import assert_exact, make_tables, totals_source

from softcart_assets import jars
from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion.sinks.ods import keeping
from softcart_assets.stack.kafka import CONNECT, KAFKA, Connect, Kafka
from softcart_assets.stack.server import Server, free_port
from spark.totals import compare

REPOSITORY = Path(__file__).parents[2]
SOURCE = totals_source()
PROGRAM = """
import sys
from support.totals import totals_source
from spark.topics import main
sys.exit(main([totals_source()], ["--every", "0.2", "--partitions", "1", "--messages", "5000"]))
"""


class Job:
    """Spark in a process of its own, with its Java and its workers."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.environment, self.log = environment, log
        self.process: subprocess.Popen[bytes] | None = None

    def up(self) -> None:
        if self.process and self.process.poll() is None:
            return
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM],
                env=self.environment,
                cwd=self.log.parent,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        if self.process:
            # Those that it started are in its group.
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(30)
            self.process = None


def kill(server: Server) -> None:
    process = server.process()
    assert process
    process.send_signal(signal.SIGKILL)
    process.wait(30)


@contextmanager
def writing(mysql: MySQLConnection) -> Iterator[None]:
    """Rows come, change and go all the time, in transactions of some rows."""
    stopped, chance = threading.Event(), random.Random(1)

    def write() -> None:
        with mysql.connect() as connection:
            while not stopped.wait(0.1):
                for _ in range(chance.randint(1, 5)):
                    connection.query(_statement(chance))
                connection.commit()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def _statement(chance: random.Random) -> str:
    number, key = chance.randint(1, 400), chance.randint(1, 9)
    return chance.choice(
        [
            f"REPLACE INTO charges VALUES ({number}, {key}, {key}.{number:03d} - 5, 'EUR', "
            f"'2026-03-01 10:14:59.999999' + INTERVAL {number} MINUTE)",
            f"UPDATE charges SET amount = amount + 0.01, subscriber_id = {key} WHERE id % 97 = "
            f"{number % 97}",
            f"UPDATE IGNORE charges SET id = id + 1000 WHERE id = {number}",
            f"DELETE FROM charges WHERE id IN ({number}, {number} + 1000)",
            f"REPLACE INTO calls VALUES ({number}, 'e{number // 2}', 'out', {key}, "
            f"'2026-03-01' + INTERVAL {number} MINUTE, {key})",
            f"UPDATE calls SET seconds = seconds + 1, event_id = 'e{key}' WHERE id = {number}",
            f"DELETE FROM calls WHERE id = {number}",
            f"REPLACE INTO invoices VALUES ({number}, {key}, {key}.50, 'EUR', "
            f"'{chance.choice(['open', 'paid'])}')",
        ]
    )


def again_until(what: Callable[[], object], seconds: float = 240) -> object:
    """Do something until it fails no more."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return what()
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


def test_totals_equal_those_of_the_stream(
    mysql97: MySQLConnection, postgres: PostgresConnection, lake: str, home: Path, tmp_path: Path
) -> None:
    try:
        for name in ("spark-kafka", "kafka", "debezium"):
            jars.fetch(name)
    except jars.JarsUnavailable as reason:
        pytest.skip(str(reason))
    own = home / "of-killed-topic-totals"
    kafka = Kafka(own, free_port(), "", {KAFKA: "kafka"})
    connect = Connect(own, free_port(), "", {CONNECT: "connect"}, kafka=kafka)
    name = f"d{secrets.token_hex(4)}"
    environment = os.environ | {
        "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}",
        "SOFTCART_SHOP_KAFKA_BOOTSTRAP_SERVERS": kafka.servers,
        "SOFTCART_SHOP_KAFKA_TOPIC_PREFIX": f"{name}.{mysql97.database}.",
        "SOFTCART_LAKE_URI": lake,
        "SOFTCART_STAGING_DATABASE": postgres.database,
    }
    job = Job(environment, tmp_path / "job.log")
    make_tables(mysql97)
    run(mysql97, *(_statement(random.Random(each)) for each in range(50)))
    load_all(SOURCE, mysql97, postgres, lake)

    def counted() -> int:
        """The batches that count."""
        job.up()
        [(batches,)] = query(
            postgres,
            "SELECT sum(batch) FROM ods._spark_topics HAVING count(*) = 3 AND min(batch) >= 0",
        )
        return int(batches)

    def has_more(than: int) -> None:
        assert counted() > than, job.log.read_text()[-3000:]

    def is_equal() -> None:
        job.up()
        with postgres.connect() as connection:
            for total in SOURCE.totals:
                [table] = [
                    each
                    for each in keeping.totals_of(connection, SOURCE, total.table)
                    if each.name == total.name
                ]
                rows, differing = compare(connection, table, "ods_topics")
                assert (rows > 0, differing) == (True, 0), job.log.read_text()[-3000:]

    try:
        connect.up()
        # It may still be electing its leader, which is itself.
        again_until(lambda: connect.follow(name, mysql97))
        with writing(mysql97):
            before = again_until(counted)
            again_until(lambda: has_more(before))  # type: ignore[arg-type]
            kill(kafka)
            kafka.up()
            kill(connect)
            connect.up()
            job.kill()
            before = again_until(counted)
            again_until(lambda: has_more(before))  # type: ignore[arg-type]
        load_all(SOURCE, mysql97, postgres, lake)
        assert_exact(mysql97, postgres, SOURCE)
        again_until(is_equal)
    finally:
        job.kill()
        connect.down()
        kafka.down()

"""Fixtures that every test may use: the tests' own servers, and fresh databases on them.

The tests never touch a server that the environment names. Settings of the shell are removed before
they start.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import hypothesis
import pytest
from support.databases import database, mongo_database, mysql_database, without_fsync
from support.mysql97 import RealMySQL, Unavailable
from support.processor import ByFile, Processor
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from softcart_assets import jars
from softcart_assets.assembly import LINES
from softcart_assets.connections import (
    KAFKA,
    DynamoConnection,
    KafkaConnection,
    MongoConnection,
    MySQLConnection,
    PostgresConnection,
)
from softcart_assets.dbt import prepare_manifest
from softcart_assets.lines.model import Source
from softcart_assets.stack import Stack
from softcart_assets.stack.kafka import Kafka
from softcart_assets.stack.s3 import S3
from softcart_assets.stack.server import free_port
from softcart_assets.stores import LAKE, LAKE_PREFIX

MYSQL = Source("test_mysql", "mysql", "", ())
MONGO = Source("test_mongo", "mongodb", "", ())
"""With these sources the stack has both servers, even if no line of business needs them."""
DYNAMO = Source("test_dynamo", "dynamodb", "", ())
"""Few tests need its server, so it is started for them alone."""


# The same examples in every run, and none too slow: neither chance nor a busy machine decides
# whether the tests pass. `make search` looks further, with other examples each time.
hypothesis.settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile(
    "search",
    hypothesis.settings.get_profile("repeatable"),
    derandomize=False,
    max_examples=1_000,
)
hypothesis.settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--processor`: where the processor time goes."""
    parser.addoption("--processor", action="store_true", help="list processor seconds by file")


def pytest_configure(config: pytest.Config) -> None:
    """Measure where tests run, add up where their reports arrive. Without xdist, both is here."""
    if config.getoption("processor"):
        is_worker = hasattr(config, "workerinput")
        if is_worker or not config.getoption("numprocesses", None):
            config.pluginmanager.register(Processor())
        if not is_worker:
            config.pluginmanager.register(ByFile())


ALONE = {
    "tests/e2e/test_a_new_line.py",
    "tests/e2e/test_online_retail.py",
    "tests/e2e/test_pages.py",
    "tests/e2e/test_telecom_pages.py",
}
"""Files of tests/e2e that do without the project."""

WITH_SPARK = {
    "tests/integration/test_hive.py",
    "tests/integration/test_inspire_sources.py",
    "tests/integration/test_lake_assets.py",
    "tests/integration/test_seed_load.py",
    "tests/integration/test_simulator.py",
    "tests/integration/test_telecom_traffic.py",
}
"""Files elsewhere with tests that need the Spark session or the metastore: each is a Java."""

LONGEST = (
    "tests/e2e",
    "tests/e2e/test_a_new_line.py",
    "tests/spark",
    "tests/e2e/test_online_retail.py",
    "tests/integration/test_warehouse.py",
    "tests/integration/test_stack.py",
    "tests/integration/test_production_in_mysql.py",
    "tests/integration/test_hadoop.py",
    "tests/integration/test_ingestion_kafka.py",
    "tests/integration/test_production_in_db2.py",
    "tests/faults/test_torture.py",
    "tests/integration/test_ods.py",
    "tests/integration/test_type_matrix.py",
)
"""What takes a minute or more comes first. Then no worker is left alone with it in the end."""


def _together(nodeid: str) -> str:
    """The name of what has to run on one worker, because it shares fixtures that take long to make.

    These are the tests of a file, those of the project, and those with a Spark session.
    """
    file = nodeid.partition("::")[0]
    if file in WITH_SPARK:
        return "tests/spark"
    folder = file.rpartition("/")[0]
    return folder if folder in ("tests/e2e", "tests/spark") and file not in ALONE else file


class _Together(LoadScopeScheduling):
    """Workers share nothing. If tests were scattered over both, everything would be made twice."""

    def _split_scope(self, nodeid: str) -> str:
        return _together(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Hand out files in the order of `pytest_collection_modifyitems`, not by their size."""
    config.option.loadscopereorder = False
    return _Together(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(_together(item.nodeid), len(LONGEST)))


@pytest.fixture(scope="session", autouse=True)
def home() -> Iterator[Path]:
    """`SOFTCART_HOME` of this test session. All other settings are removed. Deleted afterwards."""
    # Not pytest's own temporary folder. pytest keeps the last three, and this has whole servers.
    home = Path(tempfile.mkdtemp(prefix="softcart-tests-"))
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("SOFTCART_", "DAGSTER_"))]:
            patch.delenv(name)
        # Now, while no server is named: it is good for all then. All workers share it, and would
        # otherwise take turns to parse it for their own servers.
        prepare_manifest()
        patch.setenv("SOFTCART_HOME", str(home))
        patch.setenv("SOFTCART_SPARK_MASTER", "local[2]")
        patch.setenv("SOFTCART_SPARK_MEMORY", "1g")
        # Tests run many small queries once: Java's optimising compiler would take twice the
        # processor time. Without it Java keeps only 48 MB for compiled code, which Spark's
        # generated classes outgrow.
        patch.setenv("SPARK_SUBMIT_OPTS", "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m")
        yield home
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def stack(home: Path) -> Iterator[Stack]:
    """The tests' own servers, running. The environment has their settings."""
    stack = Stack(home, sources=(*LINES.sources, MYSQL, MONGO, DYNAMO), ignore_environment=True)
    with pytest.MonkeyPatch.context() as patch:
        try:
            for name, value in stack.up().items():
                patch.setenv(name, value)
            without_fsync(stack)
            yield stack
        finally:
            stack.down()


@pytest.fixture
def mysql(stack: Stack) -> Iterator[MySQLConnection]:
    """A fresh, empty database on the stack's MySQL server. With Debian's packages it is MariaDB."""
    with mysql_database(MySQLConnection.from_env(MYSQL.env_prefix)) as connection:
        yield connection


@pytest.fixture(scope="session")
def mysql97_server(home: Path) -> Iterator[RealMySQL]:
    """A real MySQL 9.7, running. Without one, tests that need it are skipped."""
    server = RealMySQL(home, free_port(), secrets.token_urlsafe(18), {MYSQL.env_prefix: MYSQL.name})
    try:
        server.products()
    except Unavailable as reason:
        pytest.skip(str(reason))
    try:
        server.up()
        yield server
    finally:
        server.down()


@pytest.fixture
def mysql97(mysql97_server: RealMySQL) -> Iterator[MySQLConnection]:
    """A fresh, empty database on a real MySQL 9.7."""
    with mysql_database(mysql97_server.connection()) as connection:
        yield connection


@pytest.fixture(scope="session")
def kafka_server(home: Path) -> Iterator[Kafka]:
    """A Kafka, running. Without its jars, tests that need it are skipped."""
    try:
        jars.fetch("kafka")
    except jars.JarsUnavailable as reason:
        pytest.skip(str(reason))
    server = Kafka(home, free_port(), "", {KAFKA: "kafka"})
    try:
        server.up()
        yield server
    finally:
        server.down()


@pytest.fixture
def kafka(kafka_server: Kafka) -> KafkaConnection:
    """The topics with a prefix that nobody else uses."""
    return KafkaConnection("SOFTCART_X", kafka_server.servers, f"{secrets.token_hex(4)}.")


@pytest.fixture(params=["mysql", "mysql97"])
def any_mysql(request: pytest.FixtureRequest) -> MySQLConnection:
    """A fresh, empty database on each server in turn: `mysql` and `mysql97`."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def postgres(stack: Stack) -> Iterator[PostgresConnection]:
    """A fresh, empty PostgreSQL database."""
    with database() as connection:
        yield connection


@pytest.fixture
def mongo(stack: Stack) -> Iterator[MongoConnection]:
    """A fresh, empty MongoDB database."""
    with mongo_database(MongoConnection.from_env(MONGO.env_prefix)) as connection:
        yield connection


@pytest.fixture
def dynamo(stack: Stack) -> DynamoConnection:
    """DynamoDB with a fresh prefix, so that no table has been made."""
    server = DynamoConnection.from_env(DYNAMO.env_prefix)
    return replace(server, table_prefix=f"{secrets.token_hex(6)}.")


@pytest.fixture
def lake(tmp_path: Path) -> str:
    """The URI of an empty lake."""
    return (tmp_path / "lake").as_uri()


@pytest.fixture(scope="session")
def s3(home: Path) -> Iterator[S3]:
    """The tests' own S3 server, running."""
    server = S3(home / "of-tests", free_port(), secrets.token_hex(8), {LAKE_PREFIX: "softcart"})
    server.up()
    yield server
    server.down()


@pytest.fixture
def s3_lake(s3: S3, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of an empty lake on S3. The environment has its settings."""
    for name, value in s3.environment(LAKE_PREFIX).items():
        monkeypatch.setenv(name, value)
    # A blank in the path: Arrow, Hadoop and URIs each write it differently.
    uri = f"{os.environ[LAKE]}/{secrets.token_hex(6)}%20lake"
    monkeypatch.setenv(LAKE, uri)
    return uri


@pytest.fixture(scope="session")
def metastore(stack: Stack) -> str:
    """The address of the tests' own Hive metastore, running."""
    return stack.up(metastore=True)["SOFTCART_HIVE_METASTORE_URI"]


@pytest.fixture(scope="session")
def spark(stack: Stack):
    """A Spark session on two cores, shared by all tests, in the tests' home.

    Tests that ask it for tables of Hive need `metastore`, too. It can read topics, if the libraries
    for that can be had.
    """
    from spark.session import build_session, stop_session

    warehouse = (stack.home / "spark" / "warehouse").as_uri()
    libraries = list[Path]()
    with suppress(jars.JarsUnavailable):
        libraries = sorted(jars.fetch("spark-kafka").glob("*.jar"))
    session = build_session("tests", warehouse_uri=warehouse, short=True, libraries=libraries)
    yield session
    stop_session(session)

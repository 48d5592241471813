"""Publications that do not reach their end: readers keep the old version, the next publication
repairs.
"""

import multiprocessing
import os
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from support.databases import database, fingerprints
from support.published import AUDITS, TABLES
from support.warehouse import create_warehouse

from softcart_assets.connections import PostgresConnection, ServerUnreachable
from softcart_assets.publishing.publish import PublishError, publish
from softcart_assets.publishing.slots import read_current

CHANGES = """
UPDATE warehouse.fct_payments SET amount = amount + 1;
INSERT INTO warehouse.dim_vendor SELECT gen_random_uuid(), 999, 'New vendor', 'NL', 4.5, true;
"""


@pytest.fixture(scope="module")
def published(stack) -> Iterator[tuple[PostgresConnection, PostgresConnection]]:
    """Staging and production at version 2, so that either slot has rows; staging has gone on
    since.
    """
    with database() as staging, database() as production:
        create_warehouse(staging, orders=1500)
        publish(staging, production, TABLES, AUDITS)
        publish(staging, production, TABLES, AUDITS)
        with staging.connect() as session:
            session.execute(CHANGES)
        yield staging, production


@pytest.fixture
def servers(published) -> Iterator[tuple[PostgresConnection, PostgresConnection]]:
    with database(published[0]) as staging, database(published[1]) as production:
        yield staging, production


def contents(connection: PostgresConnection, schema: str | None = None) -> dict[str, tuple]:
    """What each table holds, in one schema or where staging has it."""
    return fingerprints(connection, [f"{schema or table.schema}.{table.name}" for table in TABLES])


def version(production: PostgresConnection) -> int:
    with production.connect() as session:
        current = read_current(session)
    assert current is not None
    return current.version


def kill_when_it_says(
    moment: str, staging: PostgresConnection, production: PostgresConnection
) -> None:
    """Publish in a process that ends by SIGKILL as soon as it says that it has done something."""
    reading, writing = os.pipe()

    def work() -> None:
        publish(
            staging,
            production,
            TABLES,
            AUDITS,
            on_progress=lambda line: os.write(writing, f"{line}\n".encode()),
        )

    # A new interpreter would import for two seconds.
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    os.close(writing)
    with open(reading) as told:
        for line in told:
            if moment in line:
                process.kill()
                break
        else:
            pytest.fail(f"the publication ended before it said {moment!r}")
    process.join()
    assert process.exitcode == -9


@pytest.mark.parametrize(
    "moment",
    ["dim_date: ", "fct_inventory_daily: ", "audits passed", "indexes and statistics", "published"],
)
def test_killed(servers, moment):
    staging, production = servers
    before, after = contents(production, "production"), contents(staging)
    assert before != after
    kill_when_it_says(moment, staging, production)
    # Killed at the last moments, it may have switched; then it has switched everything.
    reached = version(production)
    assert contents(production, "production") == (before if reached == 2 else after)
    assert reached == 2 or moment in ("indexes and statistics", "published")

    assert publish(staging, production, TABLES, AUDITS).version == reached + 1
    assert contents(production, "production") == after


@pytest.mark.parametrize("moment", ["audits passed", "indexes and statistics"])
def test_killed_before_the_first_version(published, moment):
    """Both slots get rows then, and neither may be taken for what it is not."""
    staging, _ = published
    with database() as production:
        kill_when_it_says(moment, staging, production)
        # Each time from the last version on, whether the killed one has switched or not.
        for _ in range(2):
            publish(staging, production, TABLES, AUDITS)
            assert contents(production, "production") == contents(staging)


@pytest.mark.parametrize(
    "moment", ["fct_payments: ", "dim_date: ", "audits passed", "indexes and statistics"]
)
def test_killed_while_it_writes_changes(servers, moment):
    staging, production = servers
    # Now both slots are known, and only changes are written.
    for _ in range(2):
        publish(staging, production, TABLES, AUDITS)
    with staging.connect() as session:
        session.execute(
            "UPDATE warehouse.fct_payments SET amount = amount + 1 WHERE payment_id % 50 = 0"
        )
    before, after = contents(production, "production"), contents(staging)
    assert before != after
    kill_when_it_says(moment, staging, production)
    reached = version(production)
    assert contents(production, "production") == (before if reached == 4 else after)
    assert reached == 4 or moment == "indexes and statistics"
    for number in (1, 2):
        done = publish(staging, production, TABLES, AUDITS)
        assert done.version == reached + number
        assert contents(production, "production") == after
        assert done.written["fct_order_lines"] == 0
        assert done.written["fct_payments"] < done.row_counts["fct_payments"] / 10


@pytest.mark.parametrize("moment", ["is held", "rows kept", "indexes and statistics", "published"])
def test_killed_while_a_line_is_held(servers, moment):
    staging, production = servers
    with staging.connect() as session:
        session.execute(
            """
            INSERT INTO warehouse.dim_vendor SELECT * FROM warehouse.dim_vendor;
            INSERT INTO warehouse.dim_location VALUES (gen_random_uuid(), 'NL', 'Drenthe', 'Assen');
            """
        )
    before, there = contents(production, "production"), contents(staging)
    after = {
        table.name: (before if table.line == "shop" else there)[table.name] for table in TABLES
    }
    assert before != after
    kill_when_it_says(moment, staging, production)
    reached = version(production)
    assert contents(production, "production") == (before if reached == 2 else after)
    assert reached == 2 or moment in ("indexes and statistics", "published")

    done = publish(staging, production, TABLES, AUDITS)
    assert (done.version, done.lines["shop"].passed) == (reached + 1, False)
    assert contents(production, "production") == after


def test_a_lost_connection_is_reported_with_its_table(servers):
    staging, production = servers
    before = contents(production, "production")
    cut = threading.Event()

    def cut_connections(line: str) -> None:
        if "rows copied" in line and not cut.is_set():
            cut.set()
            with production.connect(autocommit=True) as session:
                session.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND application_name = 'softcart publish'"
                )

    with pytest.raises(
        PublishError, match=r"(?s)production/\w+: .* failed, nothing was published: .*terminat"
    ):
        publish(staging, production, TABLES, AUDITS, on_progress=cut_connections)
    assert contents(production, "production") == before
    assert publish(staging, production, TABLES, AUDITS).version == 3


def test_a_full_disk_is_reported_with_its_table(servers):
    """As the server would report it: filling a real disk takes a file system of its own."""
    staging, production = servers
    before = contents(production, "production")
    with production.connect() as session:
        session.execute(
            """
            CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS
              $$ BEGIN RAISE disk_full USING MESSAGE =
                'could not extend file: No space left on device'; END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON production_slot_11.fct_payments
              FOR EACH ROW EXECUTE FUNCTION public.refuse();
            """
        )
    with pytest.raises(
        PublishError, match=r"production/fct_payments: copying failed, .*No space left on device"
    ):
        publish(staging, production, TABLES, AUDITS)
    assert contents(production, "production") == before
    with production.connect() as session:
        session.execute("DROP FUNCTION public.refuse CASCADE")
    assert publish(staging, production, TABLES, AUDITS).version == 3


def test_a_server_that_is_down_is_named_by_its_settings(servers):
    staging, production = servers
    with pytest.raises(ServerUnreachable, match="SOFTCART_STAGING_HOST"):
        publish(replace(staging, port=1), production, TABLES, AUDITS)
    with pytest.raises(ServerUnreachable, match="SOFTCART_STAGING_HOST"):
        publish(staging, replace(production, port=1), TABLES, AUDITS)

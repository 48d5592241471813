"""A person of two lines is found in every store, by whatever is known, and exported.

Anna buys in the store and has a phone. Bert has a number in common with her, and calls her.
"""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import pytest
from support.ingestion import fill, load_all, run

from softcart_assets import warehouse_state
from softcart_assets.assembly import Lines, assemble
from softcart_assets.lake import committed_files, lake_table, refresh
from softcart_assets.lines.model import NONE, PII, Column, Line, RunningTotal, Source, Table
from softcart_assets.privacy.export import ExportRefused, export
from softcart_assets.privacy.find import Held, Search
from softcart_assets.privacy.made import Lineage
from softcart_assets.privacy.person import (
    NobodyFound,
    Person,
    SeveralPeople,
    Sought,
    find_person,
)
from softcart_assets.privacy.places import Places


def columns(**classes: object) -> tuple[Column, ...]:
    return tuple(Column(name, each, f"The {name}.") for name, each in classes.items())  # type: ignore[arg-type]


BUYERS = Table(
    "buyers",
    "Who buys.",
    ("id",),
    "snapshot",
    columns(id=NONE, email=PII, phone=PII),
    history=True,
    person={"id": "customer", "email": "email", "phone": "phone"},
)
BUYS = Table(
    "buys",
    "What they buy.",
    ("id",),
    "snapshot",
    columns(id=NONE, buyer=PII, bought_on=NONE),
    person={"buyer": "till.buyers.id"},
)
STAFF = Table(
    "staff",
    "Who works.",
    ("id",),
    "snapshot",
    columns(id=NONE, email=PII),
    person={"email": "email"},
)
CALLERS = Table(
    "callers",
    "Who calls.",
    ("id",),
    "snapshot",
    columns(id=PII, email=PII, msisdn=PII),
    person={"id": "customer", "email": "email", "msisdn": "phone"},
)
CALLS = Table(
    "calls",
    "Their calls.",
    ("id",),
    "snapshot",
    columns(id=NONE, caller=PII, other=PII),
    person={"caller": "net.callers.id"},
    mentions={"other": "net.callers.msisdn"},
)
TILL = Source("till", "mysql", "The tills.", (BUYERS, BUYS, STAFF), purpose="To sell.")
NET = Source("net", "mysql", "The network.", (CALLERS, CALLS), purpose="To carry calls.")
CALLED = RunningTotal("called", "Calls.", "calls", "caller", {"calls": "*"})
LINES = assemble(
    [
        Line("conformed", "Shared.", "team:data"),
        Line("store", "A store.", "team:store", (TILL,)),
        Line("phone", "A phone company.", "team:phone", (replace(NET, totals=(CALLED,)),)),
    ]
)
ID = ("raw_till", "buys", "buyer")
LINEAGE: Lineage = {
    ("warehouse", "fct_buys"): {"buyer_id": [ID], "buy_count": [("raw_till", "buys", "id")]},
    ("production", "fct_buys"): {"buyer_id": [("warehouse", "fct_buys", "buyer_id")]},
    ("aggregates", "agg_buys"): {"buyer_id": [("lake_till", "buys", "buyer")], "buy_count": []},
}
ANNA = (("phone", "7"), ("store", "1"))


@pytest.fixture
def places(mysql, postgres, lake, tmp_path) -> Places:
    """Both sources loaded twice, and everything that is made from them."""
    run(
        mysql,
        "CREATE TABLE buyers (id int PRIMARY KEY, email varchar(99), phone varchar(99))",
        "CREATE TABLE buys (id int PRIMARY KEY, buyer int, bought_on date)",
        "CREATE TABLE staff (id int PRIMARY KEY, email varchar(99))",
        "CREATE TABLE callers (id int PRIMARY KEY, email varchar(99), msisdn varchar(99))",
        "CREATE TABLE calls (id int PRIMARY KEY, caller int, other varchar(99))",
    )
    fill(
        mysql,
        "buyers",
        [(1, "Anna@old.example", "030 1234567"), (2, "bert@b.example", "0301234567")],
    )
    fill(mysql, "buys", [(10, 1, "2026-01-01"), (11, 1, "2026-01-02"), (12, 2, "2026-01-03")])
    fill(mysql, "staff", [(5, "anna@new.example"), (6, "carl@c.example")])
    fill(mysql, "callers", [(7, None, "491701112233"), (8, "bert@b.example", "491709998877")])
    fill(mysql, "calls", [(20, 7, "491709998877"), (21, 8, "491701112233"), (22, 8, "4930555")])
    for source in (TILL, NET):
        load_all(source, mysql, postgres, lake)
    run(mysql, "UPDATE buyers SET email = 'anna@new.example' WHERE id = 1")
    with mysql.connect() as connection:
        connection.query("SET sql_mode = 'ALLOW_INVALID_DATES'")
        connection.query("INSERT INTO buys VALUES (13, 1, '2026-02-31')")
        connection.commit()
    load_all(TILL, mysql, postgres, lake)
    with postgres.connect() as session:
        for source, table in LINES.tables():
            made = lake_table(source, table, lake)
            refresh(postgres, source, made, committed_files(session, source.name)[table.name])
        warehouse_state.prepare(session, "identities")
        session.execute(
            "INSERT INTO identities.people SELECT line, id, md5(person)::uuid, now() FROM (VALUES"
            " ('store', 1, 'anna'), ('phone', 7, 'anna'), ('store', 2, 'bert'),"
            " ('phone', 8, 'bert')) AS p (line, id, person)"
        )
        session.execute("CREATE SCHEMA warehouse; CREATE SCHEMA production_slot_11")
        session.execute("CREATE SCHEMA IF NOT EXISTS aggregates; CREATE SCHEMA serving")
        for name in ("warehouse.fct_buys", "production_slot_11.fct_buys", "aggregates.agg_buys"):
            session.execute(
                f"CREATE TABLE {name} AS SELECT buyer AS buyer_id, count(*) AS buy_count"
                " FROM raw_till.buys GROUP BY 1".encode()
            )
        # As Spark keeps it.
        session.execute("CREATE SCHEMA ods_topics")
        session.execute(
            "CREATE TABLE ods_topics.called AS SELECT caller, count(*) AS calls"
            " FROM raw_net.calls GROUP BY 1"
        )
        # As a source of files keeps records that do not count.
        session.execute(
            "INSERT INTO ingestion.file_duplicates (source, table_name, number, line, key, row)"
            " SELECT 'net', 'calls', 1, id, to_jsonb(id), to_jsonb(c) FROM raw_net.calls c"
        )
        session.execute("CREATE TABLE event_logs (event text)")
        session.execute("INSERT INTO event_logs VALUES ('no values'), ('of ANNA@new.example')")
    return Places(postgres, lake, postgres, tmp_path / "extracts", postgres, topics="shared.")


def found(
    places: Places, lineage: Lineage = LINEAGE, lines: Lines = LINES, **sought: object
) -> tuple[Person, list[Held]]:
    with places.staging.connect() as session:
        person = find_person(session, lines, Sought(**sought))  # type: ignore[arg-type]
        return person, list(Search(session, lines, places, person, lineage).everywhere())


def test_a_person_is_found_in_every_store_and_exported(places, tmp_path):
    person, held = found(places, email=" ANNA@old.example ")
    assert person.customers == ANNA
    # The number of her household is also Bert's, so it leads to nothing of his.
    assert person.contacts["phone"] == {"701112233"}
    assert person.shared == 1
    assert {f"{each.layer} {each.store}": (each.rows, each.mentions) for each in held} == {
        "source till (MySQL or MariaDB)": (None, 0),
        "source net (MySQL or MariaDB)": (None, 0),
        "kafka shared.till*": (None, 0),
        "kafka shared.net*": (None, 0),
        "raw raw_till.buyers": (1, 0),
        "raw raw_till.buyers_history": (2, 0),
        "raw raw_till.buys": (2, 0),
        "raw raw_till.staff": (1, 0),
        "raw raw_net.callers": (1, 0),
        "raw raw_net.calls": (1, 1),
        "quarantine ingestion.quarantine": (1, 0),
        "duplicates ingestion.file_duplicates of net.calls": (1, 1),
        "changes lake_till.buyers": (2, 0),
        "lake lake_till.buyers": (1, 0),
        "changes lake_till.buys": (2, 0),
        "lake lake_till.buys": (2, 0),
        "changes lake_till.staff": (1, 0),
        "lake lake_till.staff": (1, 0),
        "changes lake_net.callers": (1, 0),
        "lake lake_net.callers": (1, 0),
        "changes lake_net.calls": (1, 1),
        "lake lake_net.calls": (1, 1),
        "ods ods_topics.called": (1, 0),
        "identities identities.people": (2, 0),
        "aggregates aggregates.agg_buys": (1, 0),
        "warehouse warehouse.fct_buys": (1, 0),
        "production production_slot_11.fct_buys": (1, 0),
        "dagster event_logs": (1, 0),
    }
    assert not any(each.is_unknown for each in held)
    for other in ({"phone": "+49 170 1112233"}, {"customer": ("store", "1")}):
        assert found(places, **other)[1] == held

    with places.staging.connect() as session:
        written = export(session, LINES, person, LINEAGE, tmp_path / "out")
    assert written == {
        **{"till.buyers": 1, "till.buys": 2, "till.staff": 1, "net.callers": 1, "net.calls": 1},
        "aggregates.agg_buys": 1,
    }
    told = json.loads((tmp_path / "out" / "person.json").read_text())
    assert told["customers"] == [
        {"line": "phone", "number": "7"},
        {"line": "store", "number": "1"},
    ]
    tables = {each["table"]: each for each in told["tables"]}
    assert tables.keys() == written.keys()
    assert tables["till.buyers"]["rows"] == [
        {"id": "1", "email": "anna@new.example", "phone": "030 1234567"}
    ]
    assert tables["till.buyers"]["columns"]["email"] == "The email."
    assert tables["till.buyers"]["purpose"] == "To sell."
    assert "Kept until" in tables["till.buyers"]["retention"]
    # Bert's call to her is Bert's.
    assert [row["id"] for row in tables["net.calls"]["rows"]] == ["20"]
    path = tmp_path / "out" / "till.buys.csv"
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["id", "buyer", "bought_on"]
    assert sorted(rows) == [["10", "1", "2026-01-01"], ["11", "1", "2026-01-02"]]
    assert path.stat().st_mode & 0o777 == 0o600
    with places.staging.connect() as session, pytest.raises(ExportRefused, match="is not empty"):
        export(session, LINES, person, LINEAGE, tmp_path / "out")

    # Somebody of whom only an address is known.
    person, held = found(places, email="carl@c.example")
    assert person.customers == ()
    assert [each.store for each in held if each.layer == "raw"] == ["raw_till.staff"]

    with pytest.raises(SeveralPeople, match="phone:7, store:1; phone:8, store:2"):
        found(places, phone="0301234567")
    for nobody in ({"email": "dora@d.example"}, {"customer": ("store", "99")}):
        with pytest.raises(NobodyFound, match="Nobody is found"):
            found(places, **nobody)
    with pytest.raises(NobodyFound, match="at least 7 digits"):
        found(places, phone="12")

    # What nobody has recorded, and what has no way to a person, must not pass for empty.
    _, held = found(places, {}, customer=("store", "1"))
    unknown = {each.store: each.note for each in held if each.is_unknown}
    assert unknown.keys() == {
        "warehouse.fct_buys",
        "production_slot_11.fct_buys",
        "aggregates.agg_buys",
    }
    assert "No build has recorded" in unknown["warehouse.fct_buys"]
    silent = replace(TILL, tables=(BUYERS, BUYS, replace(STAFF, person={})))
    others = [each for each in LINES if each.name != "store"]
    lines = assemble([*others, replace(LINES.line("store"), sources=(silent,))])
    _, held = found(places, lines=lines, customer=("store", "1"))
    (note,) = (each.note for each in held if each.is_unknown)
    assert note == "The table does not say how a person is found in it. Declare `person`."
    lost = {**LINEAGE, ("warehouse", "fct_buys"): {"buy_count": [ID]}}
    _, held = found(places, lost, customer=("store", "1"))
    (note,) = (each.note for each in held if each.is_unknown and each.layer == "warehouse")
    assert note.startswith("buy_count have values of till.buys.buyer, and no column tells whose")
    # Customers of both lines, and nothing says of which.
    both = {"buyer_id": [("lake_till", "buys", "buyer"), ("lake_net", "calls", "caller")]}
    mixed: Lineage = {**LINEAGE, ("aggregates", "agg_buys"): both}
    person, held = found(places, mixed, customer=("store", "1"))
    (note,) = (each.note for each in held if each.is_unknown)
    assert "buyer_id has customers of several lines" in note
    # The export would lack rows that may be hers.
    refused: dict[str, Lineage] = {"No build has recorded": {}, "several lines": mixed}
    for told, lineage in refused.items():
        with (
            places.staging.connect() as session,
            pytest.raises(ExportRefused, match=f"aggregates.agg_buys: .*{told}"),
        ):
            export(session, LINES, person, lineage, tmp_path / "refused")
        assert not (tmp_path / "refused").exists()


def test_without_identities_a_customer_is_a_person_alone(places):
    with places.staging.connect() as session:
        session.execute("ALTER TABLE identities.people RENAME TO nobody")
    person, _ = found(places, customer=("store", "1"))
    assert person.customers == (("store", "1"),)

"""What the data of the mobile operator promise: sums to the cent, a true hazard that history
explains, mistakes in their stated shares, and people whom other lines know.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from seed_data.common.model import Output
from seed_data.common.parameters import Parameters
from seed_data.shop import generator as shop
from seed_data.telecom import generator, shares, truth
from seed_data.telecom.generator import generate
from softcart_assets.assembly import LINES

UNTIL = datetime(2026, 3, 20, 15, 30, 12, 345678, tzinfo=UTC)
PARAMETERS = Parameters(0.3, 5, UNTIL)
TABLES = [f"{source.name}.{table.name}" for source, table in LINES.line("telecom").tables()]


def _generate(spark, parameters: Parameters, directory: Path, only: list[str] = TABLES) -> None:
    output = Output(directory, only, lambda: spark, lambda table, path: None)
    generate(parameters, output)


@pytest.fixture(scope="module")
def seeded(spark, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("telecom")
    _generate(spark, PARAMETERS, directory)
    return directory


@pytest.fixture(scope="module")
def read(seeded: Path):
    def table(name: str) -> pd.DataFrame:
        return pq.read_table(seeded / name).to_pandas()

    return table


def _cents(amounts: pd.Series) -> pd.Series:
    return amounts.map(lambda amount: int(amount.scaleb(2)))


def _near(count: int, total: int, share: float) -> bool:
    """Whether a share is met, as far as chance allows."""
    spread = 5 * np.sqrt(total * share * (1 - share)) + 1
    return bool(abs(count - total * share) <= spread)


def _digest(directory: Path, name: str) -> str:
    table = pq.read_table(directory / name)
    table = table.sort_by([(column, "ascending") for column in table.column_names[:2]])
    return hashlib.sha256(repr(table.to_pylist()).encode()).hexdigest()


def test_the_same_parameters_make_the_same_rows_in_any_partitioning(
    spark, seeded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generator, "SUBSCRIBERS_PER_PARTITION", 130)
    _generate(spark, PARAMETERS, tmp_path)
    for name in TABLES:
        assert _digest(seeded, name) == _digest(tmp_path, name), name


def test_invoices_add_up_to_the_charges_of_their_cycle(read) -> None:
    lines, invoices = read("billing.invoice_lines"), read("billing.invoices").set_index("id")
    lines = lines.assign(net=_cents(lines.net_amount), tax=_cents(lines.tax_amount))
    sums = lines.groupby("invoice_id")[["net", "tax"]].sum()
    assert (sums.net.reindex(invoices.index) == _cents(invoices.net_amount)).all()
    assert (sums.tax.reindex(invoices.index) == _cents(invoices.tax_amount)).all()
    total = _cents(invoices.net_amount) + _cents(invoices.tax_amount)
    assert (total == _cents(invoices.total_amount)).all()

    cycles = read("billing.bill_cycles").set_index("account_id")
    subscribers = read("crm.subscribers").set_index("id")
    charges = read("charging.charges")
    charges["account"] = charges.subscriber_id.map(subscribers.account_id)
    # Some accounts are enough, because Python's time zones take long.
    charges = charges[charges.account % 3 == 0]
    issued = {(row.account_id, row.period_start): row.issued_on for row in invoices.itertuples()}
    expected: dict[tuple[int, bool], int] = {}
    unbilled = 0
    for row in charges.itertuples():
        cycle = cycles.loc[int(row.account)]
        zone = ZoneInfo(cycle.time_zone)
        day = row.event_at.tz_convert(zone).date()
        start = day.replace(day=cycle.cycle_day)
        if start > day:
            start = (day.replace(day=1) - timedelta(days=1)).replace(day=cycle.cycle_day)
        bill = issued.get((int(row.account), start))
        cents = int(row.amount.scaleb(2))
        if bill and row.recorded_at < datetime(bill.year, bill.month, bill.day, tzinfo=zone):
            key = (row.subscriber_id, row.kind == "fee")
            expected[key] = expected.get(key, 0) + cents
        else:
            unbilled += cents
    billed = lines[lines.kind.isin(["fee", "usage"]) & (lines.account_id % 3 == 0)]
    found = billed.groupby(["subscriber_id", billed.kind == "fee"]).net.sum()
    assert {key: cents for key, cents in found.items() if cents} == {
        key: cents for key, cents in expected.items() if cents
    }
    assert unbilled > 0


def test_balances_are_top_ups_less_charges_and_never_negative(read) -> None:
    balances = read("charging.balances").set_index("subscriber_id")
    charges, top_ups = read("charging.charges"), read("charging.top_ups")
    spent = _cents(charges.amount).groupby(charges.subscriber_id).sum()
    paid = _cents(top_ups.amount).groupby(top_ups.subscriber_id).sum()
    left = paid.reindex(balances.index, fill_value=0) - spent.reindex(balances.index, fill_value=0)
    assert (left == _cents(balances.amount)).all()
    assert (left >= 0).all()
    subscribers = read("crm.subscribers")
    assert set(balances.index) == set(subscribers.id[subscribers.kind == "prepaid"])

    # At no time below zero, as far as charges were recorded.
    entries = pd.concat(
        [
            pd.DataFrame(
                {
                    "who": top_ups.subscriber_id,
                    "at": top_ups.topped_up_at,
                    "c": _cents(top_ups.amount),
                }
            ),
            pd.DataFrame(
                {
                    "who": charges.subscriber_id,
                    "at": charges.recorded_at,
                    "c": -_cents(charges.amount),
                }
            ),
        ]
    )
    entries = entries[entries.who.isin(balances.index)].sort_values(["who", "at"])
    assert entries.groupby("who").c.cumsum().min() >= 0


def test_a_correction_is_a_reversal_and_a_new_charge(read) -> None:
    charges = read("charging.charges").set_index("id")
    corrections = charges[charges.reverses_id.notna()]
    reversals = corrections[corrections.amount < 0]
    first = charges.loc[reversals.reverses_id.astype("int64")]
    assert (-reversals.amount.to_numpy() == first.amount.to_numpy()).all()
    assert (-reversals.quantity.to_numpy() == first.quantity.to_numpy()).all()
    renewed = corrections[corrections.amount >= 0]
    assert set(renewed.reverses_id) == set(reversals.reverses_id)
    usage = charges[charges.reverses_id.isna() & (charges.kind != "fee") & (charges.amount > 0)]
    assert _near(len(reversals), len(usage), shares.CHARGE_CORRECTED)


@pytest.mark.parametrize("table", ["call_records", "sms_records", "data_sessions"])
def test_records_are_late_and_double_in_their_shares(read, table: str) -> None:
    records = read(f"signaling.{table}")
    key = records.event_id.str[1:].astype("int64")
    first = records[records.id % 2 == 0]
    assert (records.id // 2 == key).all()
    assert not first.event_id.duplicated().any()
    assert _near(len(records) - len(first), len(first), shares.RECORD_DUPLICATE)
    if table == "call_records":
        ended = first.started_at + pd.to_timedelta(first.duration_seconds, unit="s")
    else:
        ended = first.sent_at if table == "sms_records" else first.ended_at
    late = first.recorded_at - ended > pd.Timedelta(hours=2)
    assert _near(int(late.sum()), len(first), shares.RECORD_LATE)
    assert (records.recorded_at <= UNTIL).all()
    copies = records[records.id % 2 == 1].set_index("event_id")
    same = first.set_index("event_id").loc[copies.index]
    assert (copies.recorded_at >= same.recorded_at).all()
    own = ["id", "recorded_at"]
    assert copies.drop(columns=own).equals(same.drop(columns=own))


def test_files_about_roaming_have_their_mistakes_in_the_stated_shares(read) -> None:
    table = read("roaming.records")
    files = dict(zip(table.name, table.content, strict=True))
    assert len(files) == len(table)
    plain = {name: text for name, text in files.items() if "_v2" not in name}
    again = [name for name in plain if "_again" in name]
    assert all(files[name] == files[name.replace("_again", "")] for name in again)
    first = {name: text for name, text in plain.items() if name not in again}
    second = [name for name in files if "_v2" in name]
    assert all(name.replace("_v2", "") in first for name in second)
    assert _near(len(again), len(first), shares.ROAMING_FILE_REPEATED)
    assert _near(len(second), len(first), shares.ROAMING_FILE_CORRECTED)
    assert 3 * 50 < len(first) < 3 * 58

    lines = [(name, line.split(",")) for name in first for line in first[name].split("\n")[1:-1]]
    whole = [(name, each) for name, each in lines if len(each) == 11 and each[8] != "n/a"]
    assert _near(len(lines) - len(whole), len(lines), shares.ROAMING_BROKEN)
    ids = [each[1] for _, each in lines]
    assert _near(len(ids) - len(set(ids)), len(set(ids)), shares.ROAMING_DUPLICATE)
    # Whole files come up to four weeks late, and a record with the file of a later week.
    monday = [pd.Timestamp(name.split("_")[2][:8], tz="UTC") for name, _ in whole]
    recorded = pd.to_datetime([each[10] for _, each in whole])
    weeks = (pd.DatetimeIndex(monday) - recorded).ceil("7D").days // 7
    assert weeks.min() == 0
    once = pd.Series(weeks).groupby([each[1] for _, each in whole]).min()
    assert _near(int((once > 0).sum()), len(once), shares.ROAMING_LATE)
    subscribers = read("crm.subscribers").set_index("id")
    for name, each in whole:
        assert name.startswith(f"{each[0]}/")
        assert each[3] == subscribers.msisdn[int(each[2])]
        assert Decimal(each[8]) >= 0
        assert each[5] <= each[10]
    # A correction has no wrong amounts and no broken lines, and lacks some records.
    for name in second:
        right = {line.split(",")[1]: line for line in files[name].split("\n")[1:-1]}
        wrong = {line.split(",")[1] for line in first[name.replace("_v2", "")].split("\n")[1:-1]}
        assert right.keys() <= wrong
    assert {each[4] for _, each in whole} == {"data", "voice", "sms"}


def test_people_call_in_their_day_and_business_on_weekdays(read) -> None:
    calls, subscribers = read("signaling.call_records"), read("crm.subscribers").set_index("id")
    customers = read("crm.customers").set_index("id")
    berlin = calls[calls.subscriber_id.map(subscribers.time_zone) == "Europe/Berlin"]
    hours = berlin.started_at.dt.tz_convert("Europe/Berlin").dt.hour
    assert (hours.between(8, 20)).mean() > 0.75 > 0.1 > (hours < 6).mean()
    kind = calls.subscriber_id.map(subscribers.customer_id).map(customers.kind)
    weekend = calls.started_at.dt.weekday >= 5
    assert weekend[kind == "business"].mean() < 0.1 < weekend[kind == "private"].mean()


def test_nothing_happens_before_the_activation_or_after_the_end(read) -> None:
    subscribers = read("crm.subscribers").set_index("id")
    for name, at in (
        ("signaling.call_records", "started_at"),
        ("signaling.sms_records", "sent_at"),
        ("signaling.data_sessions", "started_at"),
        ("crm.interactions", "started_at"),
        ("crm.complaints", "opened_at"),
        ("charging.charges", "event_at"),
    ):
        rows = read(name)
        assert (rows[at] >= rows.subscriber_id.map(subscribers.activated_at)).all(), name
        left = rows.subscriber_id.map(subscribers.cancelled_at)
        assert (left.isna() | (rows[at] < left)).all(), name
        assert (rows[at] <= UNTIL).all(), name


def test_complaints_follow_dropped_calls(read) -> None:
    calls, complaints = read("signaling.call_records"), read("crm.complaints")
    interactions = read("crm.interactions").set_index("id")
    assert complaints.interaction_id.isin(interactions.index).all()
    dropped = calls[calls.termination == "dropped"].groupby("subscriber_id").started_at.min()
    network = complaints[complaints.category == "network"]
    assert len(network) > len(complaints) / 3
    assert (network.subscriber_id.map(dropped) < network.opened_at).all()


def _features(read, month: pd.Timestamp, months: list[pd.Timestamp]) -> pd.DataFrame:
    """What the sources tell about the three months that ended a month before."""
    place = months.index(month)
    start, end = months[max(0, place - 4)], months[place - 1]
    subscribers = read("crm.subscribers").set_index("id")
    calls = read("signaling.call_records").drop_duplicates("event_id")
    calls = calls[(calls.direction == "out") & calls.started_at.between(start, end, "left")]
    complaints = read("crm.complaints")
    complaints = complaints[complaints.opened_at.between(start, end, "left")]
    count = calls.groupby("subscriber_id").size().reindex(subscribers.index, fill_value=0)
    dropped = (
        calls[calls.termination == "dropped"]
        .groupby("subscriber_id")
        .size()
        .reindex(subscribers.index, fill_value=0)
    )
    complained = complaints.groupby("subscriber_id").size()
    return pd.DataFrame(
        {
            "calls_out": count,
            "dropped_calls": dropped,
            "complaints": complained.reindex(subscribers.index, fill_value=0),
        }
    )


def test_the_hazard_follows_from_what_the_sources_hold(spark, read) -> None:
    """Nearly always: a late record that is not written yet, and a month that was cut by the end."""
    true = truth.leaving(spark, PARAMETERS).toPandas()
    true["month"] = true.month.dt.tz_localize("UTC")
    months = sorted(true.month.unique())
    month = months[-1]
    found = _features(read, month, months)
    told = true[true.month == month].set_index("subscriber_id")
    found = found.loc[told.index]
    for name in ("calls_out", "dropped_calls", "complaints"):
        assert (found[name] == told[name]).mean() > 0.98, name


def test_the_best_possible_model_has_the_stated_quality(spark) -> None:
    """The area under the curve of the true hazard itself, between 0.74 and 0.80."""
    true = truth.leaving(spark, PARAMETERS).toPandas()
    hazard = np.sort(true.hazard.to_numpy())
    stays = 1 - hazard
    below = np.concatenate([[0.0], np.cumsum(stays)[:-1]])
    area = (hazard * below).sum() / (hazard.sum() * stays.sum())
    assert 0.74 <= area <= 0.80
    assert _near(int(true.leaves.sum()), len(true), float(true.hazard.mean()))


def test_the_truth_is_in_no_source() -> None:
    columns = {c.name for _, table in LINES.line("telecom").tables() for c in table.columns}
    assert not {"hazard", "leaves", "person", "person_id", "eager", "drops"} & columns


def test_customers_of_both_lines_are_the_same_people(spark, read, tmp_path: Path) -> None:
    output = Output(tmp_path, ["shop.customers"], lambda: spark, lambda table, path: None)
    shop.generate(PARAMETERS, output)
    theirs = pq.read_table(tmp_path / "shop.customers").to_pandas().set_index("id")
    identities = truth.identities(spark, PARAMETERS).toPandas()
    ours = read("crm.customers").set_index("id")
    private = ours[ours.kind == "private"]
    assert _near(len(identities), len(private), shares.KNOWN_PERSON)
    assert not identities.person_id.duplicated().any()
    both = identities.assign(
        ours=identities.customer_id.map(ours.email).str.lower(),
        theirs=identities.person_id.map(theirs.email),
        birth=identities.customer_id.map(ours.birth_date),
        birth_there=identities.person_id.map(theirs.birth_date),
    )
    same = (both.ours == both.theirs).sum()
    share = (1 - shares.EMAIL_MISSING - shares.EMAIL_OTHER) * 0.96  # the shop has mistakes, too
    assert abs(same / len(both) - share) < 0.12
    known = both.birth.notna() & both.birth_there.notna() & (both.birth_there != "0000-00-00")
    assert (both.birth == both.birth_there)[known].all()
    # Nobody else shares an address of theirs.
    strangers = private.drop(identities.customer_id)
    assert not strangers.email.str.lower().isin(set(theirs.email.dropna())).any()


def test_every_amount_is_exact_and_every_code_is_declared(read) -> None:
    tariffs = read("charging.tariffs").set_index("id")
    charges = read("charging.charges")
    usage = charges[charges.kind != "fee"]
    assert set(usage.tariff_id) <= set(tariffs.index)
    assert (usage.tariff_id.map(tariffs.kind) == usage.kind).all()
    starts, ends = usage.tariff_id.map(tariffs.valid_from), usage.tariff_id.map(tariffs.valid_to)
    assert ((usage.event_at >= starts) & (ends.isna() | (usage.event_at < ends))).all()
    assert usage.amount.map(lambda amount: amount == amount.quantize(Decimal("0.01"))).all()

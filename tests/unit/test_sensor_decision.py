"""The change sensors' decision: requests what is behind, nothing else, and never moves on past
something unloaded.
"""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from softcart_assets.components.decision import RETRY_AFTER, decide, look_from

NOW = datetime(2026, 1, 2, tzinfo=UTC)
TABLES = st.frozensets(st.sampled_from(["orders", "customers", "stores"]))


def test_waits_for_the_load_under_way():
    decision = decide({"orders"}, True, {}, NOW)
    assert not decision.request
    assert not decision.caught_up


def test_leaves_a_failed_load_alone_for_a_while_then_asks_again():
    failed = {"orders": NOW - timedelta(seconds=1)}
    decision = decide({"orders"}, False, failed, NOW)
    assert not decision.request
    assert "The last load of orders failed. The next request is in 299 s." in decision.reason
    assert decide({"orders"}, False, {"orders": NOW - RETRY_AFTER}, NOW).request == {"orders"}


def test_a_failed_load_holds_no_other_table_back():
    decision = decide({"orders", "stores"}, False, {"orders": NOW, "customers": NOW}, NOW)
    assert decision.request == {"stores"}
    assert decision.reason == (
        "Behind: stores. The last load of orders failed. The next request is in 300 s."
    )


@given(behind=TABLES, in_flight=st.booleans(), failed=TABLES)
def test_caught_up_only_when_nothing_is_behind(behind, in_flight, failed):
    decision = decide(behind, in_flight, dict.fromkeys(failed, NOW), NOW)
    assert decision.caught_up == (not behind)
    assert decision.request == (frozenset() if in_flight else behind - failed)


def test_looks_from_the_later_of_loaded_and_cursor():
    assert look_from(
        {"orders": "f.000001:000000000001", "stores": "f.000001:000000000009"},
        "f.000001:000000000005",
    ) == {
        "orders": "f.000001:000000000005",
        "stores": "f.000001:000000000009",
    }


def test_a_table_never_loaded_is_looked_for_from_the_beginning():
    assert look_from({}, "f.000001:000000000005") == {}

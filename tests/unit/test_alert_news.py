"""What destinations are told, and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from softcart_assets.alerts import news
from softcart_assets.alerts.news import QUIET, REPEAT, Memory
from softcart_assets.alerts.problem import Problem

BEGIN = datetime(2026, 11, 28, 8, tzinfo=UTC)
LOOK = timedelta(seconds=30)
BROKEN = Problem("check:raw_shop/orders:fresh", "check fresh of raw_shop/orders failed.")


def _titles(looks: list[tuple[datetime, list[Problem], list[str]]]) -> list[tuple[datetime, str]]:
    """What one destination is told by these looks: when, found problems, what was not asked."""
    memory, told = Memory(), []
    for at, found, unread in looks:
        memory = Memory.read(news.looked(memory, found, unread, at).written())
        if message := news.message(memory, "mail", at):
            told.append((at, message.title))
            memory = news.after(memory, "mail", at)
    return told


def _looks(*found: list[Problem]) -> list[tuple[datetime, list[Problem], list[str]]]:
    return [(BEGIN + number * LOOK, each, []) for number, each in enumerate(found)]


def test_a_problem_is_told_once_and_its_end_once() -> None:
    looks = _looks(*[[BROKEN]] * 100, *[[]] * 100)
    assert _titles(looks) == [
        (BEGIN + LOOK, "SoftCart: 1 new problem"),
        (BEGIN + 99 * LOOK + QUIET, "SoftCart: 1 problem over, all is well"),
    ]


def test_what_one_look_found_alone_is_not_told() -> None:
    assert _titles(_looks([BROKEN], *[[]] * 100)) == []


def test_what_comes_and_goes_is_one_problem() -> None:
    flapping = [[BROKEN], [BROKEN], [], []] * 50
    assert [title for _, title in _titles(_looks(*flapping))] == ["SoftCart: 1 new problem"]


def test_what_stays_is_told_again_once_a_day() -> None:
    hours = [(BEGIN + timedelta(hours=each), [BROKEN], []) for each in range(50)]
    assert [(at - BEGIN, title) for at, title in _titles(hours)] == [
        (timedelta(hours=1), "SoftCart: 1 new problem"),
        (timedelta(hours=25), "SoftCart: 1 still wrong"),
        (timedelta(hours=49), "SoftCart: 1 still wrong"),
    ]


def test_what_cannot_be_asked_for_is_not_over() -> None:
    asked = _looks([BROKEN], [BROKEN])
    silent = [(BEGIN + each * LOOK, [], ["check:"]) for each in range(2, 100)]
    assert [title for _, title in _titles(asked + silent)] == ["SoftCart: 1 new problem"]


def test_problems_of_one_look_are_one_message() -> None:
    others = [Problem(f"run:{each}", f"step {each} failed") for each in range(20)]
    memory = Memory()
    for at, found, _ in _looks(others, others):
        memory = news.looked(memory, found, [], at)
    message = news.message(memory, "mail", BEGIN + LOOK)
    assert message
    assert message.title == "SoftCart: 20 new problems"
    assert message.body.count("step ") == 20
    assert "docs/operations.md" in message.body


def test_each_destination_is_told_by_itself() -> None:
    memory = Memory()
    for at, found, _ in _looks([BROKEN], [BROKEN]):
        memory = news.looked(memory, found, [], at)
    memory = news.after(memory, "mail", BEGIN + LOOK)
    assert news.message(memory, "mail", BEGIN + LOOK) is None
    assert news.message(memory, "chat", BEGIN + LOOK)
    assert not news.of_destinations(memory, ["chat"]).told


@given(st.lists(st.tuples(st.integers(1, 3000), st.sets(st.sampled_from("abc"))), max_size=60))
def test_every_problem_told_has_one_end(steps: list[tuple[int, set[str]]]) -> None:
    """Of any looks: between two messages that call a cause new there is one that calls it over.

    Nothing is told more often than once a day, and after a long silence nothing is open.
    """
    memory, at = Memory(), BEGIN
    state: dict[str, str] = {}
    last_told: dict[str, datetime] = {}
    for seconds, causes in [*steps, (10_000, set()), (10_000, set())]:
        at += timedelta(seconds=seconds)
        memory = news.looked(memory, [Problem(each, f"<{each}>") for each in causes], [], at)
        message = news.message(memory, "mail", at)
        if message is None:
            continue
        memory = news.after(memory, "mail", at)
        heading, is_due = "", False
        for line in message.body.splitlines():
            heading = line if line.endswith(":") else heading
            for each in "abc":
                if f"<{each}>" not in line:
                    continue
                if heading == "New:":
                    assert state.get(each) != "open"
                    state[each], is_due = "open", True
                elif heading == "Over:":
                    assert state[each] == "open"
                    state[each], is_due = "over", True
                else:
                    assert state[each] == "open"
                    is_due |= at - last_told[each] >= REPEAT
                last_told[each] = at
        assert is_due
    assert "open" not in state.values()

"""The threads that share the readers of a load."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

from softcart_assets.ingestion.workers import WorkerPool


class Reader:
    def reset(self) -> None:
        pass


def test_ranges_of_the_table_that_was_submitted_first_come_first() -> None:
    """A small table has its ranges sooner. Copied first, it would leave the big one's key to the
    end, where nothing is left to do beside it.
    """
    done: list[str] = []
    is_first_of_small, is_last_of_big = Event(), Event()

    def job(name: str) -> Callable[[Reader], None]:
        def run(_: Reader) -> None:
            if name == "small 0":
                is_first_of_small.set()
                is_last_of_big.wait(10)
            done.append(name)
            if name == "big 2":
                is_last_of_big.set()

        return run

    def big(reader: Reader) -> None:
        is_first_of_small.wait(10)
        pool.share(reader, [job(f"big {n}") for n in range(3)])

    def small(reader: Reader) -> None:
        pool.share(reader, [job(f"small {n}") for n in range(3)])

    with WorkerPool([Reader(), Reader()]) as pool:
        futures = [pool.submit(big), pool.submit(small)]
        for future in futures:
            future.result(20)
    assert done[:3] == ["big 0", "big 1", "big 2"]
    assert sorted(done[3:]) == ["small 0", "small 1", "small 2"]


def test_a_job_knows_whether_it_is_the_last() -> None:
    """A key that is built last may have all processors, and no other."""
    second_may_end = Event()

    def first(reader: Reader) -> bool:
        pool.share(reader, [lambda _: None] * 3)
        return pool.is_busy()

    with WorkerPool([Reader(), Reader()]) as pool:
        second = pool.submit(lambda _: second_may_end.wait(20))
        assert pool.submit(first).result(20)
        second_may_end.set()
        second.result(20)
    with WorkerPool([Reader()]) as pool:
        assert not pool.submit(first).result(20)

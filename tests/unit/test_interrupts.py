"""Ctrl-C ends a process within seconds, also one that cannot hear it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from softcart_assets.interrupts import obeyed

WORK = {
    "somebody who takes the signal for himself": """
with obeyed(0.5):
    signal.signal(signal.SIGINT, lambda *_: None)
    print(flush=True)
    while True:
        time.sleep(60)
""",
    "a library that does not return": """
import duckdb
with obeyed(0.5):
    signal.signal(signal.SIGINT, lambda *_: None)
    print(flush=True)
    duckdb.sql("SELECT sum(a.range * b.range) FROM range(10000000) a, range(1000000) b").fetchall()
""",
    "the end of the block": """
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1)
pool.submit(time.sleep, 60)
with obeyed(0.5):
    print(flush=True)
    time.sleep(60)
""",
}


def _started(program: str) -> subprocess.Popen[str]:
    begin = "import signal, time\nfrom softcart_assets.interrupts import obeyed\n"
    process = subprocess.Popen(
        [sys.executable, "-c", begin + program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        start_new_session=True,
    )
    assert process.stdout
    process.stdout.readline()
    return process


@pytest.mark.parametrize("work", WORK)
def test_a_process_that_does_not_hear_ctrl_c_ends_all_the_same(work: str) -> None:
    process = _started(WORK[work])
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Ended in the middle of the work. Start it again: it goes on." in told


def test_a_process_in_the_background_of_a_script_can_be_ended() -> None:
    """Its shell has SIGINT ignored, and Dagster makes SIGTERM the same."""
    process = _started("""
signal.signal(signal.SIGINT, signal.SIG_IGN)
from dagster._utils.interrupts import setup_interrupt_handlers
with obeyed(30):
    setup_interrupt_handlers()
    try:
        print(flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        raise SystemExit(3)
""")
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 3


def test_a_process_that_ends_by_itself_has_its_own_way() -> None:
    process = _started("""
with obeyed(30):
    try:
        print(flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        raise SystemExit(3)
""")
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=20)
    assert (process.returncode, told) == (3, "")


def test_its_programs_end_with_it_but_servers_stay() -> None:
    process = _started("""
import subprocess
nobody = subprocess.DEVNULL
with obeyed(0.5):
    signal.signal(signal.SIGINT, lambda *_: None)
    mine = subprocess.Popen(["sleep", "60"], stdout=nobody, stderr=nobody)
    server = subprocess.Popen(["sleep", "60"], stdout=nobody, stderr=nobody, start_new_session=True)
    print(flush=True)
    while True:
        time.sleep(60)
""")
    mine, server = psutil.Process(process.pid).children()
    if os.getsid(mine.pid) != os.getsid(process.pid):
        mine, server = server, mine
    try:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        deadline = time.monotonic() + 10
        while mine.is_running() and mine.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert server.is_running()
    finally:
        server.kill()


def test_a_child_does_not_tell_its_parent_of_its_own_signals() -> None:
    process = _started("""
import os
with obeyed(0.2):
    if not (child := os.fork()):
        signal.signal(signal.SIGINT, lambda *_: None)
        os.kill(os.getpid(), signal.SIGINT)
        os._exit(0)
    os.waitpid(child, 0)
    time.sleep(1)
print("still there")
""")
    assert process.wait(30) == 0


def test_without_a_signal_nothing_is_left_behind() -> None:
    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    with obeyed(0):
        pass
    assert signal.set_wakeup_fd(before) == before

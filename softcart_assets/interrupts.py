"""Ends this process soon after Ctrl-C, unless a library keeps Python's lock all the while.

Python raises `KeyboardInterrupt` between two of its own instructions. A call of a library, or a
thread that is waited for, can put that off for minutes. All our work may be killed at any point and
started again, so a process that does not end by itself is ended.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PATIENCE_SECONDS = 5
_STAY = b"\0"
"""No signal has this number."""


@contextmanager
def obeyed(patience: float = PATIENCE_SECONDS) -> Iterator[None]:
    """End this process `patience` seconds after a SIGINT or SIGTERM that comes in this block.

    It has that time to end in order. Only the main thread can ask for this. In others, this does
    nothing. What the process has started in its own session ends with it. So local servers stay.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A script's shell starts programs in the background so. Dagster handles SIGTERM as SIGINT,
        # and would ignore that, too.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signals, told = os.pipe()
    os.set_blocking(told, False)
    # The output may be sent to a file later.
    terminal = os.dup(2)
    threading.Thread(target=_watch, args=(signals, terminal, patience), daemon=True).start()
    # The system's own handler writes to it, whatever Python is doing and whoever handles signals.
    before = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        # After a signal, the thread does not read this, and waits for the end of the process.
        os.write(told, _STAY)
        os.close(told)


def _watch(signals: int, terminal: int, patience: float) -> None:
    while (number := os.read(signals, 1)) not in (_STAY, b""):
        if number[0] in (signal.SIGINT, signal.SIGTERM):
            time.sleep(patience)
            os.write(terminal, b"Ended in the middle of the work. Start it again: it goes on.\n")
            _end()
    os.close(signals)
    os.close(terminal)


def _end() -> None:
    import psutil  # `softcart --help` needs none of it

    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error, ProcessLookupError):
            if os.getsid(child.pid) == os.getsid(0):
                child.kill()
    os._exit(128 + signal.SIGINT)


def _forget() -> None:
    # A child would write its own signals into the pipe of its parent.
    signal.set_wakeup_fd(-1)


os.register_at_fork(after_in_child=_forget)

"""Counts requests per token, over all processes of the server.

`limits` has no storage that processes share without another server. Ours is a page of memory that
they inherit.
"""

from __future__ import annotations

import fcntl
import mmap
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

from limits import RateLimitItemPerMinute
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

_SLOT = struct.Struct("=8sdQ")
"""A counter: the digest of its key, when it ends, its value."""
_SLOTS = 65_536
_NEAR = 16
"""In so many places a counter is looked for: a request takes no longer, however many there are."""


class SharedMemory(Storage):
    """Counters in memory that forked processes share. Make it before they are forked.

    Where many keys of a window meet, the counter that ends first begins anew.
    """

    STORAGE_SCHEME = None
    base_exceptions = (OSError,)

    def __init__(self) -> None:
        super().__init__()
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the process lives)
        self._file.truncate(_SLOT.size * _SLOTS)
        self._memory = mmap.mmap(self._file.fileno(), _SLOT.size * _SLOTS)
        self._threads = threading.Lock()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        # The system gives a process's lock back when the process is killed. A semaphore in shared
        # memory would stay taken for ever. Threads of one process pass this lock freely.
        with self._threads:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)

    def _slot(self, key: str, now: float) -> tuple[int, bytes, float, int]:
        """Place, key, end and value of a counter. One that has ended has the value 0."""
        digest = blake2b(key.encode(), digest_size=8).digest()
        first = int.from_bytes(digest, "big") % _SLOTS
        free = None
        for step in range(_NEAR):
            place = (first + step) % _SLOTS * _SLOT.size
            name, end, value = _SLOT.unpack_from(self._memory, place)
            if name == digest:
                return (place, digest, end, value) if end > now else (place, digest, 0.0, 0)
            if free is None or end < free[1]:
                free = place, end
            # Nothing was ever put here, and nothing of this key further on.
            if end == 0:
                break
        assert free is not None
        return free[0], digest, 0.0, 0

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """See `Storage`."""
        now = time.time()
        with self._alone():
            place, digest, end, value = self._slot(key, now)
            _SLOT.pack_into(self._memory, place, digest, end or now + expiry, value + amount)
        return value + amount

    def get(self, key: str) -> int:
        """See `Storage`."""
        with self._alone():
            return self._slot(key, time.time())[3]

    def get_expiry(self, key: str) -> float:
        """See `Storage`."""
        now = time.time()
        with self._alone():
            return self._slot(key, now)[2] or now

    def check(self) -> bool:
        """See `Storage`."""
        return True

    def reset(self) -> int | None:
        """See `Storage`."""
        with self._alone():
            self._memory[:] = bytes(len(self._memory))
        return None

    def clear(self, key: str) -> None:
        """See `Storage`."""
        with self._alone():
            place, digest, _, _ = self._slot(key, time.time())
            _SLOT.pack_into(self._memory, place, digest, time.time(), 0)


class Limits:
    """How many requests each token has left."""

    def __init__(self) -> None:
        self._limiter = FixedWindowRateLimiter(SharedMemory())

    def hit(self, token_id: str, per_minute: int) -> int:
        """Count a request. Returns 0, or the seconds to wait if the limit is used up."""
        item = RateLimitItemPerMinute(per_minute)
        if self._limiter.hit(item, token_id):
            return 0
        ends = self._limiter.get_window_stats(item, token_id).reset_time
        return max(1, round(ends - time.time()))

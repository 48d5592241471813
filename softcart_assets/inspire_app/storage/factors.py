"""Second factors, and sign-ins that wait for a code, in MySQL or MariaDB."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime
from typing import TypeVar

from softcart_assets.inspire_app.outbox import Message
from softcart_assets.inspire_app.second_factor import Factor
from softcart_assets.inspire_app.storage.outbox import add_message
from softcart_assets.inspire_app.storage.rows import Database, naive

_Result = TypeVar("_Result")


class Factors:
    """The tables `second_factors`, `recovery_codes` and `sign_ins`, by somebody's connection.

    See also `second_factor.Store`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def atomically(self, work: Callable[[], _Result]) -> _Result:
        """Do something as one transaction, and again if the server took it back."""
        return self._database.atomically(work)

    def add_message(self, message: Message) -> None:
        """Put a message into the outbox."""
        add_message(self._database, message)

    def codes_left(self, user_id: int) -> int:
        """How many recovery codes somebody has left."""
        [row] = self._database._rows(
            "SELECT COUNT(*) AS codes FROM recovery_codes WHERE user_id = %s AND used_at IS NULL",
            (user_id,),
        )
        return int(row["codes"])

    def factor(self, user_id: int) -> Factor | None:
        """Somebody's second factor, locked until the transaction ends. None: it is off."""
        row = self._database._row(
            "SELECT secret, last_step, wrong_codes, wrong_at FROM second_factors "
            "WHERE user_id = %s FOR UPDATE",
            (user_id,),
        )
        if row is None:
            return None
        return Factor(row["secret"], row["last_step"], row["wrong_codes"], row["wrong_at"])

    def use_recovery_code(self, user_id: int, digest: str, now: datetime) -> bool:
        """Use up a code. False: there is none such, or it was used."""
        count = self._database._execute(
            "UPDATE recovery_codes SET used_at = %s WHERE user_id = %s AND digest = %s "
            "AND used_at IS NULL",
            (naive(now), user_id, digest),
        )
        return count == 1

    def mark_wrong(self, user_id: int, now: datetime) -> None:
        """Count a wrong code."""
        self._database._execute(
            "UPDATE second_factors SET wrong_codes = wrong_codes + 1, wrong_at = %s "
            "WHERE user_id = %s",
            (naive(now), user_id),
        )

    def mark_right(self, user_id: int, step: int) -> None:
        """A code was right. None up to this step counts from now on."""
        self._database._execute(
            "UPDATE second_factors SET last_step = %s, wrong_codes = 0, wrong_at = NULL "
            "WHERE user_id = %s",
            (step, user_id),
        )

    def turn_on(self, user_id: int, sealed: str, step: int, now: datetime) -> bool:
        """Keep a secret. False: there is one already, or the account is deleted. `step`: of the
        code that was right.
        """
        count = self._database._execute(
            "INSERT INTO second_factors (user_id, secret, since, last_step) "
            "SELECT id, %s, %s, %s FROM users WHERE id = %s AND state = 'active' "
            "LOCK IN SHARE MODE ON DUPLICATE KEY UPDATE user_id = second_factors.user_id",
            (sealed, naive(now), step, user_id),
        )
        return count == 1

    def set_recovery_codes(self, user_id: int, digests: Collection[str], now: datetime) -> None:
        """Keep other recovery codes. Those from before are gone."""
        self._database._execute("DELETE FROM recovery_codes WHERE user_id = %s", (user_id,))
        for digest in digests:
            self._database._execute(
                "INSERT INTO recovery_codes (user_id, digest, created_at) VALUES (%s, %s, %s)",
                (user_id, digest, naive(now)),
            )

    def turn_off(self, user_id: int) -> bool:
        """Delete somebody's second factor, and the sign-ins that wait for its code. False: there
        was none.
        """
        # First what `factor` locks: two that lock in another order would wait for each other.
        count = self._database._execute("DELETE FROM second_factors WHERE user_id = %s", (user_id,))
        self._database._execute("DELETE FROM recovery_codes WHERE user_id = %s", (user_id,))
        self._database._execute("DELETE FROM sign_ins WHERE user_id = %s", (user_id,))
        return count == 1

    def add_sign_in(
        self, digest: str, user_id: int, began_at: datetime, expires_at: datetime
    ) -> bool:
        """Somebody has given the password, and not the code yet. False: none is needed."""
        # One that is turned on or off at this moment is waited for.
        count = self._database._execute(
            "INSERT INTO sign_ins (digest, user_id, began_at, expires_at) "
            "SELECT %s, user_id, %s, %s FROM second_factors WHERE user_id = %s LOCK IN SHARE MODE",
            (digest, naive(began_at), naive(expires_at), user_id),
        )
        return count == 1

    def signing_in(self, digest: str, now: datetime) -> int | None:
        """Who has given the password. None: it was too long ago, or before a new password or a
        sign-out everywhere.
        """
        row = self._database._row(
            "SELECT s.user_id FROM sign_ins AS s JOIN users AS u ON u.id = s.user_id "
            "JOIN credentials AS c ON c.user_id = s.user_id WHERE s.digest = %s "
            "AND u.state = 'active' AND s.expires_at > %s "
            "AND s.began_at >= GREATEST(c.changed_at, COALESCE(c.signed_out_at, c.changed_at))",
            (digest, naive(now)),
        )
        return row["user_id"] if row else None

    def end_sign_in(self, digest: str) -> None:
        """The code was given."""
        self._database._execute("DELETE FROM sign_ins WHERE digest = %s", (digest,))

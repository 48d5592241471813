"""What is missing in a log, as the settings of a server tell. Not every such server is at hand."""

from __future__ import annotations

from typing import Any

import pymysql
import pytest

from softcart_assets.ingestion.connectors.mysql.state import gaps


class Server:
    """A session that answers from a list. What is not in it is no statement of this server."""

    def __init__(self, is_mariadb: bool, answers: dict[str, Any]) -> None:
        self.is_mariadb, self.answers = is_mariadb, answers
        renamed = "SHOW BINARY LOG STATUS"
        self.log_status = renamed if renamed in answers else "SHOW MASTER STATUS"

    def query(self, sql: str) -> list[tuple[str | None, ...]]:
        for start, answer in self.answers.items():
            if sql.startswith(start):
                if isinstance(answer, Exception):
                    raise answer
                return answer
        raise pymysql.ProgrammingError(1064, "You have an error in your SQL syntax")


def found(*, is_mariadb: bool = False, **answers: Any) -> str:
    known = {
        "SHOW MASTER STATUS": [("binlog.000001", "4", "", "")],
        "SHOW GLOBAL VARIABLES": [],
        **{name.replace("_", " "): answer for name, answer in answers.items()},
    }
    return " ".join(gaps(Server(is_mariadb, known)))  # type: ignore[arg-type]


OFF = [("log_slave_updates", "OFF")]
DENIED = pymysql.OperationalError(1227, "Access denied")


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"SHOW_MASTER_STATUS": [("b.1", "4", "other,shop", "")]}, "binlog-do-db=other,shop"),
        ({"SHOW_BINARY_LOG_STATUS": [("b.1", "4", "", "mysql", "")]}, "binlog-ignore-db=mysql"),
        # Without a log there is nothing to say of it, and the position cannot be told.
        ({"SHOW_BINARY_LOG_STATUS": []}, ""),
        ({"SHOW_GLOBAL_VARIABLES": OFF, "SHOW_REPLICA_STATUS": []}, ""),
        ({"SHOW_GLOBAL_VARIABLES": OFF, "SHOW_REPLICA_STATUS": [("x",)]}, "is a replica"),
        ({"SHOW_GLOBAL_VARIABLES": OFF, "SHOW_SLAVE_STATUS": [("x",)]}, "is a replica"),
        ({"SHOW_GLOBAL_VARIABLES": [("log_replica_updates", "ON")]}, ""),
    ],
)
def test_gaps_of_mysql(answers: dict[str, Any], expected: str) -> None:
    assert bool(found(**answers)) == bool(expected)
    assert expected in found(**answers)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"SHOW_ALL_SLAVES_STATUS": []}, ""),
        ({"SHOW_ALL_SLAVES_STATUS": [("x",)]}, "is a replica"),
        # With the documented grants nobody may ask more.
        ({"SHOW_ALL_SLAVES_STATUS": DENIED, "SHOW_GLOBAL_STATUS": [("Slaves_running", "0")]}, ""),
        (
            {"SHOW_ALL_SLAVES_STATUS": DENIED, "SHOW_GLOBAL_STATUS": [("Slaves_running", "2")]},
            "is a replica",
        ),
        (
            {
                "SHOW_ALL_SLAVES_STATUS": [],
                "SHOW_GLOBAL_VARIABLES": [*OFF, ("wsrep_on", "ON")],
            },
            "is one of a Galera cluster",
        ),
    ],
)
def test_gaps_of_mariadb(answers: dict[str, Any], expected: str) -> None:
    answers = {"SHOW_GLOBAL_VARIABLES": OFF, **answers}
    assert bool(found(is_mariadb=True, **answers)) == bool(expected)
    assert expected in found(is_mariadb=True, **answers)

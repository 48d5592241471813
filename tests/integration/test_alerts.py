"""Alerts: what is wrong in Dagster and in the warehouse reaches a mailbox and a webhook."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from aiosmtpd.controller import Controller
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._daemon.types import DaemonHeartbeat
from dagster._utils.error import SerializableErrorInfo

from softcart_assets.alerts import dagster_records
from softcart_assets.alerts.destinations import Destination, destinations
from softcart_assets.alerts.problem import Problem
from softcart_assets.alerts.watch import Look, Watch, look
from softcart_assets.connections import SettingError
from softcart_assets.stack.server import free_port

NOW = datetime(2026, 11, 28, 8, tzinfo=UTC)
BROKEN = Problem("check:raw_shop/orders:fresh", "check fresh of raw_shop/orders failed.")


class Hook(HTTPServer):
    """A webhook. While `refuses`, it answers 500."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.refuses = False
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if not hook.refuses:
                    hook.got.append(json.loads(body))
                self.send_response(500 if hook.refuses else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


class Mailbox:
    """Keeps the mails that it gets."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.got.append(message_from_bytes(envelope.content))
        return "250 OK"


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    box = Mailbox()
    port = free_port()
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    yield box, port
    controller.stop()


def test_a_problem_and_its_end_reach_mail_webhook_and_chat(
    hook: Hook, mailbox: tuple[Mailbox, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box, port = mailbox
    monkeypatch.setenv(
        "SOFTCART_ALERTS_TO",
        f"mailto://127.0.0.1:{port}?smtp=127.0.0.1&mode=insecure&from=a@example.com&to=b@example.com"
        f" json://127.0.0.1:{hook.server_port}/hook"
        # What Mattermost takes is what Slack's incoming webhooks take.
        f" mmost://127.0.0.1:{hook.server_port}/0123456789abcdef",
    )
    watch = Watch(tmp_path / "alerts.json", destinations())
    for seconds in (0, 30):
        watch.take(Look([BROKEN], []), NOW + timedelta(seconds=seconds))
    assert [each["Subject"] for each in box.got] == ["SoftCart: 1 new problem"]
    text = box.got[0].get_payload()
    assert BROKEN.text in (text if isinstance(text, str) else text[0].get_payload())
    assert len(hook.got) == 2
    assert all(BROKEN.text in json.dumps(each) for each in hook.got)
    # Another process goes on where this one ended.
    watch = Watch(tmp_path / "alerts.json", destinations())
    watch.take(Look([BROKEN], []), NOW + timedelta(seconds=60))
    assert len(hook.got) == 2
    watch.take(Look([], []), NOW + timedelta(minutes=20))
    assert box.got[1]["Subject"] == "SoftCart: 1 problem over, all is well"
    assert len(hook.got) == 4


def test_a_destination_that_is_down_gets_its_message_later(hook: Hook, tmp_path: Path) -> None:
    hook.refuses = True
    destination = Destination(f"json://127.0.0.1:{hook.server_port}/secret")
    watch, refused = Watch(tmp_path / "alerts.json", [destination]), []
    for seconds in (0, 30, 60):
        watch.take(Look([BROKEN], []), NOW + timedelta(seconds=seconds), refused.append)
    assert refused == [destination] * 2
    hook.refuses = False
    watch.take(Look([BROKEN], []), NOW + timedelta(seconds=90))
    watch.take(Look([BROKEN], []), NOW + timedelta(seconds=120))
    assert len(hook.got) == 1
    # Addresses are secrets.
    assert "secret" not in (tmp_path / "alerts.json").read_text() + repr(destination)
    assert (tmp_path / "alerts.json").stat().st_mode & 0o077 == 0


def test_an_address_that_is_none_is_told_without_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTCART_ALERTS_TO", "json://127.0.0.1/ secret@nowhere")
    with pytest.raises(SettingError, match="Address 2 in SOFTCART_ALERTS_TO") as refused:
        destinations()
    assert "secret" not in str(refused.value)


def test_who_cannot_be_asked_is_a_problem_and_the_others_go_on() -> None:
    def broken() -> list[Problem]:
        raise RuntimeError("the server is down\nand more")

    found = look({"stream:": broken, "check:": lambda: [BROKEN]})
    assert [each.cause for each in found.problems] == ["unread:stream:", BROKEN.cause]
    assert found.problems[0].text.endswith("the server is down")
    assert found.unread == ["stream:"]


class Ill:
    """Assets that fail while told to."""

    def __init__(self) -> None:
        self.step = self.check = False
        ill = self

        @dg.asset(
            freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=1)),
            check_specs=[dg.AssetCheckSpec("sums", asset="orders", description="Sums agree.")],
            group_name="raw_shop",
        )
        def orders() -> Iterator[Any]:
            if ill.step:
                raise ValueError("the server has gone away")
            yield dg.MaterializeResult(
                check_results=[dg.AssetCheckResult(passed=not ill.check, check_name="sums")]
            )

        self.definitions = dg.Definitions([orders])
        self.instance = dg.DagsterInstance.ephemeral()
        self.repository = self.definitions.get_repository_def()
        self.readers = dagster_records.readers(self.instance, self.repository, ["orders"])

    def run(self) -> None:
        job = self.definitions.resolve_implicit_global_asset_job_def()
        job.execute_in_process(instance=self.instance, raise_on_error=False)

    def texts(self, kind: str) -> list[str]:
        return _texts(self.readers[kind]())


@pytest.fixture
def ill() -> Iterator[Ill]:
    made = Ill()
    with made.instance:
        yield made


def test_a_failed_step_is_a_problem_until_it_succeeds(ill: Ill) -> None:
    ill.run()
    assert ill.texts("run:") == []
    ill.step = True
    ill.run()
    (text,) = ill.texts("run:")
    assert text.startswith("step orders of run ")
    assert text.endswith("the server has gone away")
    assert ill.texts("run:") == [text]
    ill.step = False
    ill.run()
    assert ill.texts("run:") == []


def test_a_run_without_a_process_is_a_problem_until_the_next(ill: Ill) -> None:
    job = ill.definitions.resolve_implicit_global_asset_job_def()
    run = ill.instance.create_run_for_job(job)
    ill.instance.report_run_failed(run, "The process of this run is gone.")
    (text,) = ill.texts("run:")
    assert "none of its steps did" in text
    ill.run()
    assert ill.texts("run:") == []


def test_a_failed_check_is_a_problem_also_in_a_run_that_succeeded(ill: Ill) -> None:
    ill.check = True
    ill.run()
    assert ill.texts("check:") == ["check sums of orders failed. Sums agree."]
    assert ill.texts("run:") == []
    ill.check = False
    ill.run()
    assert ill.texts("check:") == []


def test_an_asset_older_than_promised_is_a_problem(ill: Ill) -> None:
    def old(at: datetime) -> list[Problem]:
        return dagster_records.old_assets(ill.instance, ill.repository, at)

    assert old(datetime.now(UTC)) == []
    ill.run()
    assert old(datetime.now(UTC)) == []
    (problem,) = old(datetime.now(UTC) + timedelta(hours=2))
    assert problem.text.startswith("orders: made ")
    assert problem.text.endswith("although promised every 1 hours")


def test_a_daemon_that_is_silent_is_a_problem() -> None:
    with dg.instance_for_test() as instance:
        assert instance.get_required_daemon_types()

        def silent(after: float) -> list[str]:
            at = datetime.now(UTC).timestamp() + after
            return _texts(dagster_records.silent_daemon(instance, lambda: at))

        assert silent(0)[0].startswith("Dagster's daemon has not run yet")
        for each in instance.get_required_daemon_types():
            beat = DaemonHeartbeat(datetime.now(UTC).timestamp(), each, "1", [])
            instance.add_daemon_heartbeat(beat)
        assert silent(0) == []
        assert "says nothing since" in silent(600)[0]


def _texts(problems: list[Problem]) -> list[str]:
    return [each.text for each in problems]


def test_a_sensor_whose_last_tick_failed_is_a_problem() -> None:
    with dg.instance_for_test() as instance:
        repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "there")
        origin = repository.get_instigator_origin("plan")
        state = InstigatorState(
            origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING, SensorInstigatorData()
        )
        instance.add_instigator_state(state)

        def tick(status: TickStatus, error: SerializableErrorInfo | None = None) -> None:
            instance.create_tick(
                TickData(
                    origin.get_id(),
                    "plan",
                    InstigatorType.SENSOR,
                    status,
                    datetime.now(UTC).timestamp(),
                    selector_id=state.selector_id,
                    error=error,
                )
            )

        tick(TickStatus.FAILURE, SerializableErrorInfo("shop cannot be used\nbecause", [], None))
        tick(TickStatus.STARTED)
        assert _texts(dagster_records.failed_sensors(instance)) == [
            "sensor plan failed: shop cannot be used"
        ]
        tick(TickStatus.SKIPPED)
        assert _texts(dagster_records.failed_sensors(instance)) == []

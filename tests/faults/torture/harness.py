"""A round of torture: writers at work, a reader that is killed, servers that fail, and in the end
the verdict.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psycopg

from softcart_assets.connections import ServerUnreachable
from softcart_assets.stack import REPOSITORY
from softcart_assets.stack.server import Server
from tests.faults.torture import reader, workload
from tests.faults.torture.model import Model
from tests.faults.torture.servers import GRANTS, Servers
from tests.faults.torture.verdict import Verdict, ledger_total

Strategy = Literal["cdc", "snapshot", "incremental"]
LAST_SECONDS = 120
"""So long the last bounded run may take."""


@dataclass(frozen=True)
class Plan:
    """One round. All choices come from `seed`; when they meet what the servers do is up to the
    machine.
    """

    seed: int
    strategy: Strategy
    seconds: float = 8
    writers: int = 3
    pause: float = 0.03
    """Seconds between a writer's transactions, on average."""

    def command(self) -> str:
        """What replays the round."""
        return (
            f".venv/bin/python -m tests.faults.torture --seed {self.seed} --strategy "
            f"{self.strategy}"
            f" --round {self.seconds:g} --writers {self.writers} --pause {self.pause:g}"
        )


class TortureFailed(AssertionError):
    """What did not agree, the seed, and how to see it again."""


class Round:
    """One round on servers that run; everything it makes is its own: databases, and files in
    `folder`.
    """

    def __init__(self, servers: Servers, plan: Plan, folder: Path) -> None:
        self.servers, self.plan, self.folder = servers, plan, folder
        self.dice = random.Random(f"{plan.seed} faults")
        self.reader_dice = random.Random(f"{plan.seed} reader")
        self.database = f"torture_{plan.seed}"
        self.lake = folder / "lake"
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self.resnapshotted: set[str] = set()
        self._started = time.time()
        self._log = (folder / "events.log").open("w")
        self._log_lock = threading.Lock()
        self._stopping = threading.Event()
        self._processes: dict[str, subprocess.Popen[str]] = {}
        """By the name of the thread that started it: the reader's and the auditor's present
        process.
        """
        self._faults: list[list[float]] = []
        """When each began and ended."""
        self._first_attempt = self._first_success = 0.0
        self._renewed = 0.0
        """When the last renewal of everything ended, whose tables come one by one; a run that began
        later makes them a whole.
        """
        self._is_whole = False
        model = Model(shape.name for shape in workload.KNOWN)
        self.world = workload.World(lambda: self.servers.mysql(self.database), model, self.note)

    def note(self, what: str) -> None:
        """Write an event and its time into the round's log."""
        with self._log_lock:
            print(
                f"{time.time() - self._started:9.3f} {threading.current_thread().name}: {what}",
                file=self._log,
                flush=True,
            )

    def run(self) -> str:
        """The whole round; a line that says what happened. Raises `TortureFailed`."""
        try:
            self._prepare()
            self._torture()
            if not self.problems:
                self._judge()
        finally:
            self._log.close()
        done = (
            f"seed {self.plan.seed}, {self.plan.strategy}: {sum(w.done for w in self._writers)} "
            "transactions, "
            + ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items()))
        )
        if self.problems:
            raise TortureFailed(
                "\n".join(
                    [
                        f"{done}\n{len(self.problems)} problems:",
                        *self.problems[:40],
                        f"Events: {self.folder / 'events.log'}. Again: {self.plan.command()}",
                    ]
                )
            )
        return done

    def clean_up(self) -> None:
        """Drop the databases and remove the files."""
        with self.servers.mysql("").connect() as session:
            session.query(f"DROP DATABASE IF EXISTS {self.database}")
        with self.servers.postgres("postgres").connect(autocommit=True) as session:
            session.execute(f"DROP DATABASE IF EXISTS {self.database} WITH (FORCE)".encode())
        shutil.rmtree(self.folder)

    def _prepare(self) -> None:
        with self.servers.mysql("").connect() as session:
            session.query(f"DROP DATABASE IF EXISTS {self.database}")
            session.query(f"CREATE DATABASE {self.database} CHARACTER SET utf8mb4")
            for statement in GRANTS:
                session.query(statement)
        with self.servers.postgres("postgres").connect(autocommit=True) as session:
            session.execute(f"DROP DATABASE IF EXISTS {self.database} WITH (FORCE)".encode())
            session.execute(f"CREATE DATABASE {self.database}".encode())
        workload.create(self.servers.mysql(self.database))
        self.lake.mkdir()
        self._config = self.folder / "reader.json"
        self._config.write_text(
            reader.config(
                self.plan.strategy,
                self.servers.mysql_of_reader(self.database),
                self.servers.postgres_of_reader(self.database),
                self.lake.as_uri(),
            )
        )

    def _torture(self) -> None:
        plan, seed = self.plan, str(self.plan.seed)
        self._writers = [
            workload.Writer(self.world, seed, n, pause=plan.pause) for n in range(plan.writers)
        ]
        schemas = workload.SchemaChanger(self.world, seed, plan.strategy, pause=plan.seconds / 16)
        threads = [*self._writers, schemas]
        for thread in threads:
            thread.start()
        while sum(writer.done for writer in self._writers) < 30 and all(
            t.failure is None for t in threads
        ):
            time.sleep(0.05)
        reading = threading.Thread(target=self._keep_reading, name="reader")
        watching = threading.Thread(target=self._watch, name="watcher")
        auditing = threading.Thread(target=self._keep_auditing, name="auditor")
        for each in (reading, watching, auditing):
            each.start()
        try:
            if self.dice.random() < 0.7:  # otherwise what is harmed is the first copy
                calm = time.time() + LAST_SECONDS
                while not self._first_success and time.time() < calm and not self.problems:
                    time.sleep(0.05)
            end = time.time() + plan.seconds
            while (
                time.time() < end and not self.problems and all(t.failure is None for t in threads)
            ):
                time.sleep(self.dice.choice([0, 0.3, 1, 2]) * self.dice.uniform(0.5, 1.5))
                self._harm()
        finally:
            self.servers.up()
            self.world.stopping.set()
            for thread in threads:
                thread.join(60)
            self._stopping.set()
            for each in (reading, watching, auditing):
                each.join(LAST_SECONDS)
            for process in self._processes.values():
                process.kill()
        self.counts.update({f"{kind} statements": count for kind, count in schemas.changes.items()})
        for thread in threads:
            if thread.failure:
                raise thread.failure
            if thread.is_alive():
                self.problems.append(f"{thread.name} did not stop")

    # The reader

    def _keep_reading(self) -> None:
        """Run the reader again and again; one that fails while nobody harmed it is a problem."""
        modes = ["bounded"] if self.plan.strategy != "cdc" else ["bounded", "stream"]
        while not self._stopping.is_set() and not self.problems:
            mode = self.reader_dice.choice(modes) if self._first_success else "bounded"
            patience = self.reader_dice.uniform(1, 10)
            began = time.time()
            self._first_attempt = self._first_attempt or began
            code, told = self._read(mode, patience=patience if mode == "stream" else LAST_SECONDS)
            ended = time.time()
            if code == 0:
                if mode == "bounded":
                    self._first_success = self._first_success or ended
                    self._is_whole |= began > self._renewed
            elif code == -signal.SIGTERM:
                pass  # told to end before it had begun
            elif not self._was_harmed(began, ended) and not self._may_fail(code, told):
                self.problems.append(
                    f"the reader ({mode}) ended with {code} though nobody harmed it: {told[-3000:]}"
                )

    def _keep_auditing(self) -> None:
        """Now and then compare a table with its source, or read it again, while all goes on.

        A difference is a problem, whatever was harmed.
        """
        dice = random.Random(f"{self.plan.seed} auditor")
        known = [shape.name for shape in workload.KNOWN]
        while not self._stopping.wait(dice.uniform(0.3, 2)) and not self.problems:
            command = [
                dice.choice(["reconcile", "repair"]),
                dice.choice([*known, workload.BULK, workload.KEYLESS]),
            ]
            if self.plan.strategy == "cdc" and dice.random() < 0.5:
                ranged = ["ints", str(dice.randrange(300)), str(dice.randrange(300, 900))]
                command = ["resnapshot", *dice.choice([[dice.choice(known)], ranged, ranged])]
                if dice.random() < 0.1:
                    command = ["resnapshot"]
            if not self._first_success:
                continue
            if command == ["resnapshot"]:  # begins at the log's end, whatever was before
                self.resnapshotted |= set(known)
                self._renewed, self._is_whole = float("inf"), False
            began = time.time()
            code, told = self._read(*command)
            if command == ["resnapshot"]:
                self._renewed = time.time()
            if code == reader.DIFFERENT or (code and not self._was_harmed(began, time.time())):
                self.problems.append(f"{' '.join(command)} ended with {code}: {told[-3000:]}")

    def _read(self, *command: str, patience: float = LAST_SECONDS) -> tuple[int, str]:
        """One process from start to end; it is told to end after some seconds. Its exit code and
        what it printed.
        """
        name = threading.current_thread().name
        began = time.time()
        with (self.folder / f"{name}.log").open("w+") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.torture.reader", str(self._config), *command],
                cwd=REPOSITORY,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )
            self._processes[name] = process
            is_endless = command == ("stream",)
            while (
                process.poll() is None
                and time.time() < began + patience
                and not (is_endless and self._stopping.is_set())
            ):
                time.sleep(0.02)
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    self.problems.append(f"{' '.join(command)} does not end")
            code = process.wait()
            output.seek(0)
            told = output.read()
        self.counts[f"{command[0]}s"] += 1
        self.note(
            f"{' '.join(command)} ended with {code} after {time.time() - began:.2f} s: "
            f"{told[-1000:].strip()}"
        )
        return code, told

    def _was_harmed(self, began: float, ended: float) -> bool:
        return any(one <= ended and other >= began - 1 for one, other in self._faults)

    def _may_fail(self, code: int, told: str) -> bool:
        """Whether only tables failed whose schema was being changed, and running again is all that
        is to be done.
        """
        if code != reader.TABLES_FAILED:
            return False
        failures = json.loads(told.splitlines()[-1])
        return all(
            table in (*workload.LOOSE, workload.TRUNCATED)
            and error.startswith(("SchemaChanged", "MissingTable"))
            for table, error in failures.items()
        )

    def _watch(self) -> None:
        """Whoever looks at the target sees whole transactions only, once all tables are followed:
        the ledgers balance.
        """
        while self.plan.strategy == "cdc" and not self._stopping.wait(0.2):
            if not self._is_whole:
                continue
            with (
                suppress(psycopg.Error, ServerUnreachable),
                self.servers.postgres(self.database).connect() as session,
            ):
                total = ledger_total(session)
                self.counts["looks"] += 1
                if total:
                    self.problems.append(
                        "a reader of the target saw half a transaction: the ledgers' sum was "
                        f"{total}"
                    )

    # Harm

    @contextmanager
    def _fault(self, what: str) -> Iterator[None]:
        self.note(what)
        self.counts[what.partition(":")[0]] += 1
        fault = [time.time(), float("inf")]
        self._faults.append(fault)
        try:
            yield
        finally:
            fault[1] = time.time()
            self.note(f"{what} is over")

    def _harm(self) -> None:
        """Do one of the bad things."""
        harms: list[tuple[Callable[[], None], int]] = [
            (self._kill_reader, 6),
            (lambda: self._kill_server(self.servers.target), 2),
            (lambda: self._kill_server(self.servers.source), 2),
            (self._kill_connections_at_source, 2),
            (self._kill_connections_at_target, 2),
            (self._cut, 4),
            (self._stall, 2),
        ]
        self.dice.choices([harm for harm, _ in harms], [weight for _, weight in harms])[0]()

    def _kill_reader(self) -> None:
        running = [process for process in self._processes.values() if process.poll() is None]
        if running:
            with self._fault("kills of readers"):
                self.dice.choice(running).kill()

    def _kill_server(self, server: Server) -> None:
        is_source = server is self.servers.source
        pause = self.dice.choice([0, 0.2, 1.0])
        with self.world.no_kill, self._fault(f"kills of the {'source' if is_source else 'target'}"):
            self.servers.kill(server)
            time.sleep(pause)
            server.up()

    def _kill_connections_at_source(self) -> None:
        with self._fault("KILLs at the source"):
            self.note(f"{self.servers.kill_connections_at_source()} killed")

    def _kill_connections_at_target(self) -> None:
        with self._fault("terminations at the target"):
            self.note(f"{self.servers.kill_connections_at_target(self.database)} terminated")

    def _cut(self) -> None:
        proxy = self.dice.choice(
            [self.servers.to_source, self.servers.to_source, self.servers.to_target]
        )
        after = self.dice.choice([0, self.dice.randrange(1, 3000), self.dice.randrange(1, 300_000)])
        with self._fault(
            f"cuts: {'source' if proxy is self.servers.to_source else 'target'} after {after} bytes"
        ):
            proxy.cut(after=after)
            if after:
                time.sleep(self.dice.uniform(0.1, 1))
                proxy.flow()

    def _stall(self) -> None:
        proxy = self.dice.choice([self.servers.to_source, self.servers.to_target])
        with self._fault(f"stalls: {'source' if proxy is self.servers.to_source else 'target'}"):
            proxy.stall()
            time.sleep(self.dice.uniform(0.1, 2))
            if self.dice.random() < 0.5:
                proxy.cut()
            proxy.flow()

    # The end

    def _judge(self) -> None:
        """Nobody writes or harms any more: a last run brings everything to the source's end, a
        second one finds nothing.
        """
        for run in ("the last run", "a run after the last"):
            code, told = self._read("bounded")
            if code:
                self.problems.append(f"{run} ended with {code}: {told[-3000:]}")
                return
            if run != "the last run" and " changed " in told:
                self.problems.append(f"{run} found changes: {told}")
        first_load = (self._first_attempt, self._first_success or time.time())
        verdict = Verdict(
            self.world.model,
            self.servers.mysql(self.database),
            self.servers.postgres(self.database),
            self.lake,
            self.plan.strategy,
        )
        self.problems += verdict.problems(first_load, self.resnapshotted)

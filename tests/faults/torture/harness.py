"""A round of torture: writers at work, a reader that is killed, servers that fail, and in the end
the verdict.
"""

from __future__ import annotations

import json
import os
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
from enum import StrEnum
from pathlib import Path
from typing import Literal, get_args

import psycopg

from softcart_assets.connections import (
    METASTORE,
    MongoConnection,
    MySQLConnection,
    ServerUnreachable,
)
from softcart_assets.ingestion.errors import MissingTable
from softcart_assets.ingestion.proof.verify import compare
from softcart_assets.ingestion.sinks.ods.rebuild import NotBuilt, rebuild
from softcart_assets.lines.model import Source
from softcart_assets.locks import LockHeld
from softcart_assets.paths import REPOSITORY
from softcart_assets.stack.server import Server
from tests.faults.torture import documents, reader, workload
from tests.faults.torture.lakes import Lakes, refresh_all, unlike_hive
from tests.faults.torture.model import Model
from tests.faults.torture.servers import GRANTS, Proxy, Servers
from tests.faults.torture.verdict import Verdict, ledger_total, torn_rows, wrong_totals
from tests.support.clock import give_clock, set_clock

Strategy = Literal["cdc", "snapshot", "incremental"]
LAST_SECONDS = 120
"""So long the last bounded run may take."""
NOTICED_SECONDS = 12
"""So long after a silence either side may still find connections that the other one has lost."""


class Extra(StrEnum):
    """What only some rounds have, as their seeds say."""

    SHARED = "shared rows"
    """Writers change the same rows, so that only the source knows their order."""
    STALLS = "long stalls"
    """Connections stall for up to ten seconds, instead of two."""
    SILENCE = "silence"
    """Packets are dropped, so that neither side learns anything."""
    CLOCKS = "shifted clocks"
    """The target's clock jumps, and the log of a captured source has wrong times."""
    SECOND = "a second source"
    """Another source declares some of the tables, too."""
    DOCUMENTS = "documents"
    """A MongoDB is followed as well."""
    LAKE = "lake tables"
    """The lake's tables are made all the time, Hive is told, and in the end Spark reads them."""


CHANCES = {
    Extra.SHARED: 0.8,
    Extra.STALLS: 0.4,
    Extra.SILENCE: 0.4,
    Extra.CLOCKS: 0.5,
    Extra.SECOND: 0.4,
    Extra.DOCUMENTS: 0.4,
    Extra.LAKE: 0.25,  # Spark is slow to start, and takes the processor from everything else
}
"""In which share of all rounds they are."""


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

    @property
    def extras(self) -> frozenset[Extra]:
        """What the round has besides what all have."""
        dice = random.Random(f"{self.seed} extras")
        return frozenset(extra for extra, chance in CHANCES.items() if dice.random() < chance)

    @property
    def second_strategy(self) -> Strategy:
        """How the tables of the second source are loaded."""
        return random.Random(f"{self.seed} second").choice(get_args(Strategy))

    def command(self) -> str:
        """What replays the round."""
        return (
            f".venv/bin/python -m tests.faults.torture --seed {self.seed} --strategy "
            f"{self.strategy}"
            f" --round {self.seconds:g} --writers {self.writers} --pause {self.pause:g}"
        )


@dataclass
class Followed:
    """A source that is read all the time."""

    source: Source
    config: Path
    modes: tuple[str, ...]
    """The reader's modes, the first of which brings everything to the source's end."""
    first_attempt: float = 0.0
    first_success: float = 0.0


class TortureFailed(AssertionError):
    """What did not agree, the seed, and how to see it again."""


class Round:
    """One round on servers that run; everything it makes is its own: databases, and files in
    `folder`.
    """

    def __init__(self, servers: Servers, lakes: Lakes, plan: Plan, folder: Path) -> None:
        self.servers, self.lakes, self.plan, self.folder = servers, lakes, plan, folder
        self.extras = plan.extras
        self.dice = random.Random(f"{plan.seed} faults")
        self._clock_dice = random.Random(f"{plan.seed} clocks")
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
        self._followed: list[Followed] = []
        """The first one is the main source, which the auditor and the watcher look at."""
        self._document_writer: documents.DocumentWriter | None = None
        self._renewed = 0.0
        """When the last renewal of everything ended, whose tables come one by one; a run that began
        later makes them a whole.
        """
        self._is_whole = False
        model = Model(shape.name for shape in workload.KNOWN)
        self.world = workload.World(
            lambda: self.servers.mysql(self.database), model, self.note, self._shift_of_source
        )

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
            f"seed {self.plan.seed}, {', '.join([self.plan.strategy, *sorted(self.extras)])}: "
            f"{sum(w.done for w in self._writers)} transactions, "
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
        if Extra.DOCUMENTS in self.extras:
            with self.servers.mongo(self.database).connect() as client:
                client.drop_database(self.database)
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
        if Extra.CLOCKS in self.extras:
            give_clock(self.servers.postgres(self.database))
        self._follow(workload.source(self.plan.strategy), self.plan.strategy)
        if Extra.SECOND in self.extras:
            strategy = self.plan.second_strategy
            self._follow(workload.source(strategy, "second"), strategy)
        if Extra.LAKE in self.extras:
            self.servers.metastore.up()
            # Where the reader finds it. Of the rounds before, Hive knows tables of the same names.
            os.environ |= self.servers.metastore.environment(METASTORE)
        if Extra.DOCUMENTS in self.extras:
            self.servers.documents.up()
            self._follow(documents.SOURCE, "cdc")
            self._document_writer = documents.DocumentWriter(
                self.servers.mongo(self.database), str(self.plan.seed), self.world.stopping
            )

    def _follow(self, source: Source, strategy: Strategy) -> None:
        """Have a source read from now on."""
        is_mysql = source.kind == "mysql"
        connection: MySQLConnection | MongoConnection = (
            self.servers.mysql_of_reader(self.database)
            if is_mysql
            else self.servers.mongo_of_reader(self.database)
        )
        file = self.folder / f"{source.name}.json"
        file.write_text(
            reader.config(
                source,
                strategy,
                connection,
                self.servers.postgres_of_reader(self.database),
                self.lake.as_uri(),
                is_impatient=bool(self.extras & {Extra.STALLS, Extra.SILENCE}),
            )
        )
        has_log = is_mysql and strategy == "cdc"
        modes = ("bounded", "unasked", "stream") if has_log else ("bounded",)
        self._followed.append(Followed(source, file, modes))

    def _torture(self) -> None:
        plan, seed = self.plan, str(self.plan.seed)
        self._writers = [
            workload.Writer(
                self.world, seed, n, pause=plan.pause, shares=Extra.SHARED in self.extras
            )
            for n in range(plan.writers)
        ]
        schemas = workload.SchemaChanger(self.world, seed, plan.strategy, pause=plan.seconds / 16)
        threads: list[workload.Writer | workload.SchemaChanger | documents.DocumentWriter]
        threads = [*self._writers]
        if self._document_writer:
            threads.append(self._document_writer)
        for thread in threads:
            thread.start()
        while sum(writer.done for writer in self._writers) < 30 and all(
            t.failure is None for t in threads
        ):
            time.sleep(0.05)
        main = self._followed[0]
        jobs: dict[str, tuple[Callable[[Followed], None], Followed]] = {
            f"reader of {each.source.name}": (self._keep_reading, each) for each in self._followed
        }
        jobs |= {"watcher": (self._watch, main), "auditor": (self._keep_auditing, main)}
        if Extra.LAKE in self.extras:
            jobs["lake"] = (self._keep_refreshing, main)
        # Daemons: one that hangs is a problem that is told, and not a reason to hang as well.
        readers = [
            threading.Thread(target=job, args=(each,), name=name, daemon=True)
            for name, (job, each) in jobs.items()
        ]
        for each in readers:
            each.start()
        try:
            if self.dice.random() < 0.7:  # otherwise what is harmed is the first copy
                calm = time.time() + LAST_SECONDS
                while not main.first_success and time.time() < calm and not self.problems:
                    time.sleep(0.05)
            # A table that changes while it is copied is copied again. With changes all the time the
            # first copy of all tables takes minutes.
            schemas.start()
            threads.append(schemas)
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
            for each in readers:
                each.join(LAST_SECONDS)
            for process in self._processes.values():
                process.kill()
        self.problems += [f"the {each.name} did not stop" for each in readers if each.is_alive()]
        self.counts.update({f"{kind} statements": count for kind, count in schemas.changes.items()})
        for thread in threads:
            if thread.failure:
                raise thread.failure
            if thread.is_alive():
                self.problems.append(f"{thread.name} did not stop")

    # The reader

    def _keep_reading(self, followed: Followed) -> None:
        """Run the reader again and again; one that fails while nobody harmed it is a problem."""
        name = followed.source.name
        dice = random.Random(f"{self.plan.seed} reader of {name}")
        while not self._stopping.is_set() and not self.problems:
            mode = dice.choice(followed.modes) if followed.first_success else "bounded"
            patience = dice.uniform(1, 10)
            began = time.time()
            followed.first_attempt = followed.first_attempt or began
            code, told = self._read(
                followed, mode, patience=patience if mode == "stream" else LAST_SECONDS
            )
            ended = time.time()
            if code == 0:
                if mode != "stream":
                    followed.first_success = followed.first_success or ended
                    if followed is self._followed[0]:
                        self._is_whole |= began > self._renewed
            elif code == -signal.SIGTERM:
                pass  # told to end before it had begun
            elif not self._was_harmed(began, ended) and not self._may_fail(code, told):
                self.problems.append(
                    f"the reader of {name} ({mode}) ended with {code} though nobody harmed it: "
                    f"{told[-3000:]}"
                )

    def _keep_auditing(self, main: Followed) -> None:
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
            if not main.first_success:
                continue
            if command == ["resnapshot"]:  # begins at the log's end, whatever was before
                self.resnapshotted |= set(known)
                self._renewed, self._is_whole = float("inf"), False
            began = time.time()
            code, told = self._read(main, *command)
            if command == ["resnapshot"]:
                self._renewed = time.time()
            if code == reader.DIFFERENT or (code and not self._was_harmed(began, time.time())):
                self.problems.append(f"{' '.join(command)} ended with {code}: {told[-3000:]}")

    def _keep_refreshing(self, main: Followed) -> None:
        """Make the main source's tables of the lake, again and again."""

        while not self._stopping.wait(1) and not self.problems:
            if not main.first_success:
                continue
            began = time.time()
            code, told = self._read(main, "refresh")
            if code == -signal.SIGTERM:
                pass  # A table that nobody reads any more may stay stale.
            elif code == reader.DIFFERENT or (code and not self._was_harmed(began, time.time())):
                self.problems.append(f"a refresh of the lake ended with {code}: {told[-3000:]}")

    def _read(
        self, followed: Followed, *command: str, patience: float = LAST_SECONDS
    ) -> tuple[int, str]:
        """One process from start to end; it is told to end after some seconds. Its exit code and
        what it printed.
        """
        name = threading.current_thread().name
        began = time.time()
        with (self.folder / f"{name}.log").open("w+") as output:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tests.faults.torture.reader",
                    str(followed.config),
                    *command,
                ],
                cwd=REPOSITORY,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )
            self._processes[name] = process
            is_endless = command[0] in ("stream", "refresh")
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

    def _watch(self, main: Followed) -> None:
        """Whoever looks at the target sees whole transactions only, once all tables are followed:
        the ledgers balance, and the shared rows are what the trail says. At any time raw is what
        the source states, if it states anything, and totals are what raw gives.
        """
        dice = random.Random(f"{self.plan.seed} watcher")
        tables = [table.name for table in main.source.tables]
        postgres = self.servers.postgres(self.database)
        while self.plan.strategy == "cdc" and not self._stopping.wait(0.2):
            if not self._is_whole:
                continue
            with (
                suppress(psycopg.Error, ServerUnreachable),
                postgres.connect() as session,
            ):
                session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                total_sum, torn = (
                    ledger_total(session, main.source),
                    torn_rows(session, main.source),
                )
                self.counts["looks"] += 1
                if total_sum or torn:
                    self.problems.append(
                        "a reader of the target saw half a transaction: the ledgers' sum was "
                        f"{total_sum}, and {torn} shared rows were not what the trail said"
                    )
            with suppress(psycopg.Error, ServerUnreachable, LockHeld, NotBuilt):
                total = dice.choice(main.source.totals)
                if dice.random() < 0.2:
                    rebuild(postgres, main.source, total)
                    self.counts["totals built anew"] += 1
                self.problems += wrong_totals(postgres, [total], main.source)
            with suppress(psycopg.Error, ServerUnreachable, LockHeld, MissingTable):
                found = compare(main.source, postgres, dice.choice(tables))
                self.counts["comparisons" if found.is_stated else "nothing stated"] += 1
                if found.is_stated and not found.is_equal:
                    self.problems.append(f"while the reader was at work: {found}")

    # Harm

    @contextmanager
    def _fault(self, what: str, noticed_within: float = 0) -> Iterator[None]:
        self.note(what)
        self.counts[what.partition(":")[0]] += 1
        fault = [time.time(), float("inf")]
        self._faults.append(fault)
        try:
            yield
        finally:
            fault[1] = time.time() + noticed_within
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
        if Extra.LAKE in self.extras:
            harms.append((lambda: self._kill_server(self.servers.metastore), 1))
        if Extra.SILENCE in self.extras:
            harms.append((self._be_silent, 2))
        if Extra.CLOCKS in self.extras:
            harms.append((self._shift_clock, 3))
        self.dice.choices([harm for harm, _ in harms], [weight for _, weight in harms])[0]()

    def _kill_reader(self) -> None:
        running = [process for process in self._processes.values() if process.poll() is None]
        if running:
            with self._fault("kills of readers"):
                self.dice.choice(running).kill()

    def _kill_server(self, server: Server) -> None:
        pause = self.dice.choice([0, 0.2, 1.0])
        with self.world.no_kill, self._fault(f"kills of the {server.title}"):
            self.servers.kill(server)
            time.sleep(pause)
            server.up()

    def _kill_connections_at_source(self) -> None:
        with self._fault("KILLs at the source"):
            self.note(f"{self.servers.kill_connections_at_source()} killed")

    def _kill_connections_at_target(self) -> None:
        with self._fault("terminations at the target"):
            self.note(f"{self.servers.kill_connections_at_target(self.database)} terminated")

    def _proxy(self) -> tuple[str, Proxy]:
        """One of the proxies, and in front of what it is."""
        servers = self.servers
        proxies = {"source": servers.to_source, "target": servers.to_target}
        if Extra.DOCUMENTS in self.extras:
            proxies["documents"] = servers.to_documents
        return self.dice.choice(list(proxies.items()))

    def _cut(self) -> None:
        name, proxy = self._proxy()
        after = self.dice.choice([0, self.dice.randrange(1, 3000), self.dice.randrange(1, 300_000)])
        with self._fault(f"cuts: {name} after {after} bytes"):
            proxy.cut(after=after)
            if after:
                time.sleep(self.dice.uniform(0.1, 1))
                proxy.flow()

    def _stall(self) -> None:
        name, proxy = self._proxy()
        longest = 10 if Extra.STALLS in self.extras else 2
        with self._fault(f"stalls: {name}"):
            proxy.stall()
            time.sleep(self.dice.uniform(0.1, longest))
            if self.dice.random() < 0.5:
                proxy.cut()
            proxy.flow()

    def _be_silent(self) -> None:
        name, proxy = self._proxy()
        with self._fault(f"silences: {name}", NOTICED_SECONDS):
            proxy.drop()
            # Less and more than an impatient reader waits.
            time.sleep(self.dice.uniform(0.5, 2 * reader.IMPATIENCE_SECONDS))
            proxy.flow()

    def _shift_clock(self) -> None:
        """Set the target's clock, at some times so that two readings of it are on different days.

        It is no harm that anything may fail from.
        """
        hours = [self.dice.choice([-48, -24, -1, 0, 1, 24]) for _ in range(2)]
        with suppress(psycopg.Error, ServerUnreachable):
            set_clock(self.servers.postgres(self.database), *(f"{each} hours" for each in hours))
            self.counts["shifts of the clock"] += 1
            self.note(f"the clock is shifted by {hours} hours")

    def _shift_of_source(self) -> int:
        """By how many seconds the clock of a session at the source is wrong."""
        # Whoever goes by a cursor has to trust the source's clock.
        strategies = {table.strategy for each in self._followed for table in each.source.tables}
        if Extra.CLOCKS not in self.extras or "incremental" in strategies:
            return 0
        return self._clock_dice.choice([0, -86_400, 3_600])

    # The end

    def _judge(self) -> None:
        """Nobody writes or harms any more: a last run brings everything to the source's end, a
        second one finds nothing.
        """
        for followed in self._followed:
            self._judge_source(followed)

    def _judge_source(self, followed: Followed) -> None:
        name, postgres = followed.source.name, self.servers.postgres(self.database)
        verdict = Verdict(
            self.world.model,
            self.servers.mysql(self.database),
            postgres,
            self.lake,
            followed.source,
        )
        is_mysql = followed.source.kind == "mysql"
        # Without asking the source, so that it shows whether what the log told adds up.
        last = "unasked" if "unasked" in followed.modes else "bounded"
        for run, mode in (("the last run", last), ("a run after the last", "bounded")):
            code, told = self._read(followed, mode)
            if code:
                self.problems.append(f"{run} of {name} ended with {code}: {told[-3000:]}")
                return
            if run != "the last run" and " changed " in told:
                self.problems.append(f"{run} of {name} found changes: {told}")
            if is_mysql:
                # The second one asks. So from then on everything is stated.
                self.problems += verdict.statements(all_are_stated=run != "the last run")
        if is_mysql:
            first_load = (followed.first_attempt, followed.first_success or time.time())
            renewed = self.resnapshotted if followed is self._followed[0] else set()
            self.problems += verdict.problems(first_load, renewed)
        elif self._document_writer:
            self.problems += documents.problems(
                self._document_writer.model, self.servers.mongo(self.database), postgres
            )
        if Extra.LAKE in self.extras:
            lake = self.lake.as_uri()
            self.problems += refresh_all(followed.source, postgres, lake, self.note)
            self.problems += unlike_hive(followed.source, lake, os.environ[f"{METASTORE}_URI"])
            if is_mysql:
                self.problems += verdict.lake_tables(self.lakes)

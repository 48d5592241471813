"""Running totals by Spark's Structured Streaming, from Debezium's topics in Kafka.

The declarations are those of the operational data store (`RunningTotal`), and so are the results:
`ods_topics.<total>` has the rows that `ods.<total>` has. A message tells what a row was before it
changed and what it is since. So the totals need no state of rows: the old image is taken away, and
the new one is added.

Debezium tells a change again after a crash. Each change has a place in the database's log. The
places of a partition rise, so what lies up to the last one that counts was told before. These
high-water marks, the number of the batch and the totals are written in one transaction. The rows of
a snapshot share a place, so Spark keeps their keys in its state store. If only one row of an event
counts (`RunningTotal.identity`), Spark also keeps what was told of each event. The offset in the
marks tells what is new there.

A snapshot that begins anew, or a table that is emptied, has what came before count no more. The
topic is then read again from its beginning, and only what lies behind that place counts.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from pyarrow import fs
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery
from pyspark.sql.types import StructType

from softcart_assets import jars
from softcart_assets.connections import KafkaConnection, PostgresConnection, SettingError, staging
from softcart_assets.ingestion import bookkeeping
from softcart_assets.ingestion.connectors.kafka.errors import again, purged
from softcart_assets.ingestion.connectors.kafka.positions import Place
from softcart_assets.ingestion.connectors.kafka.reader import KafkaReader, opened
from softcart_assets.ingestion.errors import MissingTable
from softcart_assets.ingestion.sinks.ods import keeping
from softcart_assets.ingestion.sinks.ods.table import RawRows, TotalTable
from softcart_assets.ingestion.types import Column as SourceColumn
from softcart_assets.lake import lake_table
from softcart_assets.lake.schema import type_name
from softcart_assets.lines.model import Source, Table
from softcart_assets.stores import lake_uri
from spark.private import is_submitted
from spark.session import build_session, stop_session
from spark.topic_images import OUT, Images
from spark.totals import Counted, TotalsError, add, prepared, refuse_inexact, relation

SCHEMA = "ods_topics"
MESSAGES = 50_000
"""So many messages at most are in a batch."""
Mark = tuple[int, str, int]
"""The last offset that counts, and the last place in the log and time of a change."""
_READ = r'"op"\s*:\s*"r"'
"""What every row of a snapshot has in its message."""
_PAUSE_SECONDS = 0.5
_LOOK_SECONDS = 60
"""So often, while the queries go on, Kafka is asked for topics that it did not have."""


@dataclass(frozen=True)
class InTopic(Counted):
    """A table with running totals whose changes are in a topic.

    `columns`: those that totals need, by name. The others: see `ods._spark_topics`.
    """

    kafka: KafkaConnection
    topic: str
    columns: Mapping[str, SourceColumn]
    partitions: int
    floor: str
    generation: int

    @property
    def folder(self) -> str:
        """The folder of the checkpoint, under the lake's root."""
        return f"streams/topics/{self.source.name}/{self.table}-{self.digest}-{self.generation}"

    @property
    def asset(self) -> str:
        """Its name, for error texts."""
        return f"{self.source.name}.{self.table}"

    def tables(self) -> list[TotalTable]:
        """The tables of its totals."""
        names = tuple(self.columns)
        rows = RawRows(
            self.source, self.table, "", self.lake.key, self.columns, self.identity, names
        )
        return [TotalTable(total, rows) for total in self.totals]

    def is_new(self) -> bool:
        """Whether no query has begun."""
        info = self.lake.store.get_file_info(f"{self.folder}/checkpoint/metadata")
        return bool(info.type == fs.FileType.NotFound)


def in_topics(
    warehouse: PostgresConnection, source: Source, kafka: KafkaConnection, lake_uri: str
) -> list[InTopic]:
    """Return the tables of a source with totals that have a topic.

    Raises `TotalsError` if Spark cannot keep a total exactly, and `IngestionError` if a topic
    cannot be read, or does not have all changes any more.
    """
    found = []
    with opened(source, kafka) as [reader, *_], warehouse.connect() as connection:
        bookkeeping.prepare(connection, source.schema)
        # Here, because the queries would get in each other's way.
        keeping.run(connection, f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        for name in dict.fromkeys(total.table for total in source.totals):
            table = source.table(name)
            try:
                place = reader.place(table)
            except MissingTable:
                continue
            starts = {part: start for part, start in reader.starts.items() if start}
            each = _in_topic(connection, source, table, kafka, lake_uri, reader, place)
            if starts and each.is_new():
                part, start = min(starts.items())
                raise purged(
                    kafka,
                    reader.asset(table),
                    f"partition {part} of {place.topic!r} begins at offset {start}, so the "
                    "beginning is not kept any more",
                )
            found.append(each)
    return found


def _in_topic(
    connection: psycopg.Connection,
    source: Source,
    table: Table,
    kafka: KafkaConnection,
    lake_uri: str,
    reader: KafkaReader,
    place: Place,
) -> InTopic:
    """Return a table with its topic. Notes the topic if another one was counted before."""
    row = connection.execute(
        "SELECT topic, topic_id, partitions, floor, generation FROM ods._spark_topics"
        " WHERE (source, table_name) = (%s, %s)",
        (source.name, table.name),
    ).fetchone()
    if row and row[0] == place.topic and row[1] != place.id:
        raise purged(kafka, reader.asset(table), f"topic {place.topic!r} was made anew")
    if row and row[0] == place.topic and row[2] != len(place.offsets):
        raise _grown(reader.asset(table), kafka, place.topic, row[2])
    if row is None or row[0] != place.topic:
        row = connection.execute(
            "INSERT INTO ods._spark_topics (source, table_name, topic, topic_id, partitions)"
            " VALUES (%s, %s, %s, %s, %s) ON CONFLICT (source, table_name) DO UPDATE SET"
            " topic = EXCLUDED.topic, topic_id = EXCLUDED.topic_id, log = NULL, floor = '',"
            " partitions = EXCLUDED.partitions, generation = _spark_topics.generation + 1,"
            " query = NULL, batch = -1, marks = '{}'"
            " RETURNING topic, topic_id, partitions, floor, generation",
            (source.name, table.name, place.topic, place.id, len(place.offsets)),
        ).fetchone()
    assert row
    at_topic = {column.name: column for column in reader.columns(table, ())}
    totals = [total for total in source.totals if total.table == table.name]
    needed = [*table.key, *(n for total in totals for n in (*total.reads, *total.identity))]
    columns = {}
    for name in dict.fromkeys(needed):
        if name not in at_topic:
            raise TotalsError(
                f"{reader.asset(table)}: running totals read the column {name!r}, which topic "
                f"{place.topic!r} does not have. Correct the totals of source {source.name!r}."
            )
        columns[name] = at_topic[name]
    types = StructType.fromJson(
        {
            "type": "struct",
            "fields": [
                {
                    "name": name,
                    "type": type_name(each.lake_type),
                    "nullable": True,
                    "metadata": {},
                }
                for name, each in columns.items()
            ],
        }
    )
    for total in totals:
        refuse_inexact(total, types)
    lake = lake_table(source, table, lake_uri)
    return InTopic(
        source, table.name, lake, types, kafka, place.topic, columns, row[2], row[3], row[4]
    )


def _grown(asset: str, kafka: KafkaConnection, topic: str, partitions: int) -> TotalsError:
    return TotalsError(
        f"{asset}: topic {topic!r} had {partitions} partitions, and has more now. So a change that "
        "Debezium tells again may come in another partition, where nobody can see that it counts "
        f"already. {again(kafka)}"
    )


def lines(spark: SparkSession, counted: InTopic, messages: int = MESSAGES) -> DataFrame:
    """What the topic tells: the lines of `Images`, those of a snapshot once. For totals with an
    identity also lines without a place, which have all that was told of an event in `told`.
    """
    topic = (
        spark.readStream.format("kafka")
        .options(**_client(counted.kafka))
        .option("subscribe", counted.topic)
        .option("startingOffsets", "earliest")
        .option("failOnDataLoss", "true")
        .option("maxOffsetsPerTrigger", messages)
        .load()
        .select("partition", "offset", "value")
    )

    def images(rows: DataFrame, reads: bool | None) -> DataFrame:
        types = {name: column.target_type for name, column in counted.columns.items()}
        told = Images(
            counted.asset,
            counted.topic,
            counted.lake.key,
            counted.identity,
            types,
            tuple(counted.used),
            counted.floor,
            reads,
        )
        return rows.mapInArrow(told, OUT)

    # Debezium may tell a snapshot twice at one place: if it breaks off, and nothing changes until
    # it begins anew. At another place it is a new one, also if all its keys are known.
    snapshot = images(topic.where(F.col("value").cast("string").rlike(_READ)), True)
    found = images(topic, False).unionByName(snapshot.dropDuplicates(["key", "at"]))
    if not counted.identity:
        return found
    entry = F.struct("key", "at", "sign", "image", "part", "offset")
    events = (
        images(topic, None)
        .where("event IS NOT NULL")
        .groupBy("event")
        .agg(F.collect_list(entry).alias("told"))
    )
    return found.unionByName(events, allowMissingColumns=True)


def _of_events(batch: DataFrame, marks: Mapping[str, Mark]) -> DataFrame:
    """The rows of events that begin to count, with `sign` 1, and those that end to, with -1."""

    def image(told: Column) -> Column:
        """The image of the row with the smallest key, of those that are there."""
        last = F.filter(
            told,
            lambda one: (
                ~F.exists(
                    told, lambda other: (other["key"] == one["key"]) & (other["at"] > one["at"])
                )
            ),
        )
        there = F.filter(last, lambda one: one["sign"] > 0)
        return F.array_min(F.transform(there, lambda one: F.struct(one["key"], one["image"])))[
            "image"
        ]

    def was_told(one: Column) -> Column:
        told = F.lit(False)
        for part, (offset, _, _) in marks.items():
            told |= (one["part"] == int(part)) & (one["offset"] <= offset)
        return told

    both = batch.where("told IS NOT NULL").select(
        image(F.filter("told", was_told)).alias("was"), image(F.col("told")).alias("is")
    )
    signed = F.array(
        F.struct(F.lit(-1).alias("sign"), F.col("was").alias("image")),
        F.struct(F.lit(1).alias("sign"), F.col("is").alias("image")),
    )
    changed = both.where(~F.col("was").eqNullSafe(F.col("is")))
    return changed.select(F.explode(signed).alias("e")).select("e.*").where("image IS NOT NULL")


def _client(kafka: KafkaConnection) -> dict[str, str]:
    """The options of Spark's reader."""
    if kafka.user or kafka.tls:
        raise SettingError(
            f"{kafka.prefix}: Spark's job reads topics without a login and without TLS only. Unset "
            f"{kafka.prefix}_USER and {kafka.prefix}_TLS_CA, and give it a listener without them "
            "in a network that nobody else is in."
        )
    return {
        "kafka.bootstrap.servers": kafka.servers,
        "kafka.isolation.level": "read_committed",
    }


@dataclass
class _Noted:
    """What the warehouse has of a topic. `marks`: by partition."""

    log: str | None
    floor: str
    batch: int
    marks: dict[str, Mark]


class Sink:
    """Adds what a batch brings to the totals of a table, in one transaction with its number and
    with the high-water marks.

    `is_moved`: the topic has to be read from its beginning, because a new snapshot has come.
    """

    def __init__(self, warehouse: PostgresConnection, counted: InTopic) -> None:
        self.warehouse, self.counted = warehouse, counted
        self.is_moved = False

    def __call__(self, batch: DataFrame, number: int) -> None:
        """Called by Spark for each batch, again if it was interrupted."""
        batch.persist()
        try:
            with self.warehouse.connect(application_name="softcart spark topics") as connection:
                self._write(connection, batch, number)
        finally:
            batch.unpersist()
        if self.is_moved:
            raise TotalsError(f"{self.counted.asset}: Debezium has told the table anew")

    def _write(self, connection: psycopg.Connection, batch: DataFrame, number: int) -> None:
        tables = self.counted.tables()
        noted = self._noted(connection)
        if number > noted.batch + 1:
            raise TotalsError(
                f"{self.counted.asset}: the checkpoint has batch {number}, but the totals in "
                f"{SCHEMA} have batch {noted.batch}. The warehouse was set back. Delete "
                f"{self.counted.lake.hadoop_path(self.counted.folder)}, then start again. The "
                "table will be counted from the beginning."
            )
        if number <= noted.batch:
            # Its rows count already, but Spark fails if a batch leaves state stores as they were.
            batch.write.format("noop").mode("overwrite").save()
            return
        found = _summed(batch, noted.marks)
        if any(row.part >= self.counted.partitions for row in found):
            raise _grown(
                self.counted.asset,
                self.counted.kafka,
                self.counted.topic,
                self.counted.partitions,
            )
        self._refuse_other_log(found, noted)
        begins = max((row.begins for row in found if row.begins), default="")
        # Nothing counts yet, and nothing lies before it.
        is_first = number == 0 and all(row.first >= begins for row in found)
        if begins > noted.floor:
            if not is_first:
                self._move(connection, begins)
                return
            noted.floor = begins
        if noted.batch < 0:
            # A checkpoint that begins: its totals begin, too.
            for table in tables:
                keeping.run(connection, f"DROP TABLE IF EXISTS {relation(SCHEMA, table)}")
                keeping.run(connection, table.create(relation(SCHEMA, table)))
        alone = batch.where("image IS NOT NULL AND event IS NULL")
        alone = alone.where((F.col("kind") == "read") | ~_is_told(noted.marks))
        # It may be told again in the same batch.
        images = alone.dropDuplicates(["at", "sign", "key"]).select("sign", "image")
        if self.counted.identity:
            images = images.unionByName(_of_events(batch, noted.marks))
        for table in tables:
            add(connection, self.counted, table, SCHEMA, images)
        self._note(connection, number, found, noted)

    def _place(self) -> tuple[str, str]:
        return self.counted.source.name, self.counted.table

    def _noted(self, connection: psycopg.Connection) -> _Noted:
        row = connection.execute(
            "SELECT log, floor, CASE WHEN query = %s THEN batch ELSE -1 END,"
            " CASE WHEN query = %s THEN marks ELSE '{}' END FROM ods._spark_topics"
            " WHERE (source, table_name) = (%s, %s) AND generation = %s FOR UPDATE",
            (*[self._query()] * 2, *self._place(), self.counted.generation),
        ).fetchone()
        if row is None:
            raise TotalsError(
                f"{self.counted.asset}: another job counts topic {self.counted.topic!r} anew. Run "
                "one job at a time."
            )
        return _Noted(*row)

    def _query(self) -> str:
        """The id of the query, which Spark makes with the checkpoint."""
        path = f"{self.counted.folder}/checkpoint/metadata"
        with self.counted.lake.store.open_input_stream(path) as stream:
            return str(json.loads(stream.read())["id"])

    def _refuse_other_log(self, found: Sequence[Any], noted: _Noted) -> None:
        logs = {noted.log, *(log for row in found for log in (row.log, row.other_log))} - {None}
        late = next((row for row in found if row.late), None)
        if late or len(logs) > 1:
            place = f"partition {late.part}" if late else f"the files {sorted(map(str, logs))}"
            raise TotalsError(
                f"{self.counted.asset}: topic {self.counted.topic!r} goes on at a place in the "
                f"database's log that lies before what it has told already ({place}): Debezium "
                "follows another server, or the log began anew. Nothing was committed. "
                f"{again(self.counted.kafka)}"
            )
        noted.log = next(iter(logs), None)

    def _move(self, connection: psycopg.Connection, floor: str) -> None:
        """Have the topic read from its beginning, and only what lies behind a place count."""
        connection.execute(
            "UPDATE ods._spark_topics SET floor = %s, generation = generation + 1, query = NULL,"
            " batch = -1, marks = '{}', updated_at = now() WHERE (source, table_name) = (%s, %s)",
            (floor, *self._place()),
        )
        self.is_moved = True

    def _note(
        self, connection: psycopg.Connection, number: int, found: Sequence[Any], noted: _Noted
    ) -> None:
        marks = dict(noted.marks)
        for row in found:
            _, at, moment = marks.get(str(row.part), (0, "", 0))
            marks[str(row.part)] = (row.offset, max(row.at or "", at), max(row.time or 0, moment))
        connection.execute(
            "UPDATE ods._spark_topics SET log = %s, floor = %s, query = %s, batch = %s, marks = %s,"
            " updated_at = now() WHERE (source, table_name) = (%s, %s)",
            (
                *(noted.log, noted.floor, self._query(), number),
                *(json.dumps(marks), *self._place()),
            ),
        )


def _is_told(marks: Mapping[str, Mark], *, later: bool = False) -> Column:
    """Whether a line lies up to the mark of its partition. `later`: and happened behind it."""
    told = F.lit(False)
    for part, (_, at, moment) in marks.items():
        is_told = (F.col("part") == int(part)) & (F.col("at") <= at)
        told |= is_told & (F.col("time") > moment) if later else is_told
    return told


def _summed(batch: DataFrame, marks: Mapping[str, Mark]) -> list[Any]:
    """Return what a batch has of each partition."""
    is_change = F.col("kind") == "change"
    return (
        batch.where("part IS NOT NULL")
        .groupBy("part")
        .agg(
            F.max("offset").alias("offset"),
            F.max(F.when(is_change, F.col("at"))).alias("at"),
            F.max(F.when(is_change, F.col("time"))).alias("time"),
            F.min("at").alias("first"),
            F.max(F.when(~is_change, F.col("at"))).alias("begins"),
            F.min("log").alias("log"),
            F.max("log").alias("other_log"),
            F.coalesce(F.bool_or(is_change & _is_told(marks, later=True)), F.lit(False)).alias(
                "late"
            ),
        )
        .collect()
    )


def start(
    spark: SparkSession,
    warehouse: PostgresConnection,
    counted: InTopic,
    every: float | None,
    messages: int = MESSAGES,
) -> tuple[StreamingQuery, Sink]:
    """Start the query of a table, in a session of `prepared`.

    `every`: seconds between batches. None: what there is, then the end. What other declarations
    have left in the lake is deleted.
    """
    counted.forget_others()
    trigger: dict[str, Any] = (
        {"availableNow": True} if every is None else {"processingTime": f"{every} seconds"}
    )
    sink = Sink(warehouse, counted)
    query = (
        lines(spark, counted, messages)
        .writeStream.queryName(counted.asset)
        .option("checkpointLocation", counted.lake.hadoop_path(f"{counted.folder}/checkpoint"))
        .outputMode("update")
        .foreachBatch(sink)
        .trigger(**trigger)
        .start()
    )
    return query, sink


def count(
    spark: SparkSession,
    warehouse: PostgresConnection,
    sources: Sequence[tuple[Source, KafkaConnection]],
    lake: str,
    every: float | None,
    messages: int = MESSAGES,
) -> None:
    """Count what the topics of sources have. With `every` it goes on until a query fails."""
    running: dict[str, tuple[StreamingQuery, Sink]] = {}
    finished: set[str] = set()
    looked = 0.0
    while True:
        if not looked or (every is not None and time.monotonic() > looked + _LOOK_SECONDS):
            _start_others(spark, warehouse, sources, lake, every, messages, running, finished)
            looked = time.monotonic()
        for name, (query, sink) in list(running.items()):
            if query.isActive:
                continue
            del running[name]
            if sink.is_moved:
                print(f"{name}: Debezium has told the table anew, so it is counted anew")
                looked = 0.0
                continue
            # Raises what it failed with.
            query.awaitTermination()
            finished.add(name)
        if not running and looked:
            return
        time.sleep(_PAUSE_SECONDS if every is None else min(_PAUSE_SECONDS, every or 0.1))


def _start_others(
    spark: SparkSession,
    warehouse: PostgresConnection,
    sources: Sequence[tuple[Source, KafkaConnection]],
    lake: str,
    every: float | None,
    messages: int,
    running: dict[str, tuple[StreamingQuery, Sink]],
    finished: set[str],
) -> None:
    """Start the queries of tables that have a topic and are not counted yet."""
    for source, kafka in sources:
        for each in in_topics(warehouse, source, kafka, lake):
            if each.asset not in running and each.asset not in finished:
                running[each.asset] = start(spark, warehouse, each, every, messages)
    if not running and not finished:
        raise TotalsError(
            "No table with totals has a topic with messages. Check that Debezium's connector "
            "follows the databases, and the settings ending in _TOPIC_PREFIX."
        )


def main(sources: Sequence[Source], arguments: Sequence[str] | None = None) -> int:
    """The command line of a line's job. Returns its exit code."""
    parser = argparse.ArgumentParser(description="Keep running totals with Spark, from Kafka.")
    parser.add_argument(
        "--every", type=float, help="seconds between batches; without it, what there is"
    )
    parser.add_argument(
        "--partitions", type=int, default=2, help="state stores per table; fixed by the first run"
    )
    parser.add_argument(
        "--messages", type=int, default=MESSAGES, help="messages of a batch, at most"
    )
    options = parser.parse_args(arguments)
    with_totals = [source for source in sources if source.totals]
    # Not the source's own prefix: its user and password are those of the database.
    connections = [
        (each, KafkaConnection.from_env(f"{each.env_prefix}_KAFKA")) for each in with_totals
    ]
    # spark-submit has got them by --jars.
    libraries = () if is_submitted() else sorted(jars.fetch("spark-kafka").glob("*.jar"))
    spark = build_session(
        "topics",
        hive=False,
        libraries=libraries,
        settings={"spark.sql.shuffle.partitions": str(options.partitions)},
    )
    try:
        count(
            *(prepared(spark), staging(), connections, lake_uri()),
            *(options.every, options.messages),
        )
    finally:
        stop_session(spark)
    return 0

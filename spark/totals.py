"""Running totals by Spark's Structured Streaming, from the change logs in the lake.

The declarations are those of the operational data store (`RunningTotal`), and so are the results:
`ods_spark.<total>` has the rows that `ods.<total>` has. Spark keeps the last version of each row,
and the rows of each event, in its state stores. A batch of changes then gives rows that count now
and rows that do not count any more. Their sums are added to the totals in PostgreSQL, in one
transaction with the number of the batch. If Spark repeats a batch, its number shows that it counts
already.

A query has one table. Its checkpoint and its offers are in the lake's folder `streams/totals`. If
the declaration changes, the folder is another one, and the table is counted from the beginning.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Container, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from operator import and_
from typing import Any

import psycopg
from pyarrow import fs
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery
from pyspark.sql.types import DataType, DecimalType, IntegralType, StringType, StructType

from softcart_assets.connections import PostgresConnection, staging
from softcart_assets.ingestion import bookkeeping
from softcart_assets.ingestion.sinks.ods import keeping
from softcart_assets.ingestion.sinks.ods.table import TotalTable
from softcart_assets.ingestion.sinks.sql import listed, quote
from softcart_assets.lake import (
    ChangeFile,
    LakeTable,
    committed_files,
    from_json,
    lake_table,
    pending_files,
)
from softcart_assets.lake.schema import common_schema, source_names, to_json
from softcart_assets.lines.model import RunningTotal, Source, Where
from softcart_assets.stores import lake_uri
from spark.change_log import FORMAT, PLACE, ChangeLog
from spark.counting import Events, LastVersions
from spark.session import build_session, stop_session

SCHEMA = "ods_spark"
_SETTINGS = {
    "spark.sql.streaming.stateStore.providerClass": (
        "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
    ),
    # A batch then writes what it changed, and not the whole store.
    "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "true",
}
_OWN = f"_deleted BOOLEAN, _version LONG, _loaded_at TIMESTAMP, {PLACE}"
_QUARTER = 15 * 60 * 1_000_000
_LOOK_SECONDS = 60
"""So often, while the queries go on, the lake is asked for tables that it did not have."""


class TotalsError(RuntimeError):
    """Spark cannot keep a total. The message names it and says what to do."""


@dataclass(frozen=True)
class Counted:
    """A table with running totals. `types`: Spark's types of the columns that they read."""

    source: Source
    table: str
    lake: LakeTable
    types: StructType

    @property
    def totals(self) -> list[RunningTotal]:
        """The totals over the table."""
        return [total for total in self.source.totals if total.table == self.table]

    @property
    def identity(self) -> tuple[str, ...]:
        """See `RunningTotal`. It is the same for all totals of a table."""
        return self.totals[0].identity

    @property
    def used(self) -> list[str]:
        """The columns of an image of a row, in their order."""
        return list(dict.fromkeys(name for total in self.totals for name in total.reads))

    @property
    def digest(self) -> str:
        """Changes if a declaration changes."""
        # A text in `declared_at` or `description` changes no result.
        declared = [
            {name: value for name, value in asdict(total).items() if name not in _TEXTS}
            for total in self.totals
        ]
        return hashlib.sha256(repr((declared, self.lake.key)).encode()).hexdigest()[:16]

    @property
    def folder(self) -> str:
        """The folder of checkpoint and offers, under the lake's root."""
        return f"streams/totals/{self.source.name}/{self.table}-{self.digest}"

    def forget_others(self) -> None:
        """Delete checkpoints and offers of other declarations of the table."""
        parent, _, own = self.folder.rpartition("/")
        ours = re.compile(rf"{re.escape(self.table)}-[0-9a-f]{{16}}(-\d+)?")
        for each in self.lake.store.get_file_info(fs.FileSelector(parent, allow_not_found=True)):
            if each.base_name != own and ours.fullmatch(each.base_name):
                self.lake.store.delete_dir(each.path)

    def type_of(self, column: str) -> Any:
        """Spark's type of a column."""
        return self.types[column].dataType


_TEXTS = ("declared_at", "description")


def counted(
    connection: psycopg.Connection, source: Source, lake_uri: str, known: Container[str] = ()
) -> list[Counted]:
    """Return the tables of a source with totals that have a change log in the lake.

    `known`: names of tables that are left out. Raises `TotalsError` if a total reads columns whose
    sums Spark cannot compute exactly.
    """
    committed = committed_files(connection, source.name)
    found = []
    for name in dict.fromkeys(total.table for total in source.totals):
        files = committed.get(name, [])
        if not files or name in known:
            continue
        table = lake_table(source, source.table(name), lake_uri)
        state = table.state()
        known = from_json(state.schema) if state else from_json({"fields": []})
        columns = common_schema(table, known, pending_files(table, files))
        totals = [total for total in source.totals if total.table == name]
        names = [*table.key, *(n for total in totals for n in (*total.reads, *total.identity))]
        at_lake = source_names(columns)
        fields = {field["name"]: field for field in to_json(columns)["fields"]}
        types = StructType.fromJson(
            {
                "type": "struct",
                "fields": [
                    fields[at_lake[each]] | {"name": each, "metadata": {}}
                    for each in dict.fromkeys(names)
                ],
            }
        )
        found.append(Counted(source, name, table, types))
        for total in totals:
            refuse_inexact(total, types)
    return found


def refuse_inexact(total: RunningTotal, types: StructType) -> None:
    """Raise `TotalsError` if Spark cannot keep a total over columns of these types exactly."""
    for column in total.measures.values():
        if column != "*" and not is_number(types[column].dataType):
            raise TotalsError(
                f"{total.declared_at}: Spark cannot add up the column {column!r} of the total "
                f"{total.name!r} exactly, because it is {types[column].dataType.simpleString()} in "
                "the lake. Leave this total to the operational data store."
            )
    for each in total.where:
        is_text = isinstance(types[each.column].dataType, StringType)
        if is_text and each.operator in ("<", "<=", ">", ">="):
            raise TotalsError(
                f"{total.declared_at}: the total {total.name!r} compares the text {each.column!r} "
                "by its order, which differs between PostgreSQL and Spark. Leave this total to the "
                "operational data store."
            )


def is_number(type_: DataType) -> bool:
    """Whether values of a type are numbers whose sums are exact."""
    return isinstance(type_, (DecimalType, IntegralType))


def prepared(spark: SparkSession) -> SparkSession:
    """Return a session beside another one, with what queries of this module need."""
    session = spark.newSession()
    for name, value in _SETTINGS.items():
        session.conf.set(name, value)
    session.dataSource.register(ChangeLog)
    return session


def differences(spark: SparkSession, counted: Counted, database: str) -> DataFrame:
    """The rows that begin to count, with `sign` 1, and those that end to, with -1.

    `image` has the columns `Counted.used` as a JSON array of texts. `database`: that of the
    warehouse.
    """
    own = StructType.fromDDL(_OWN)
    assert isinstance(own, StructType)
    types = StructType([*counted.types.fields, *own.fields])
    changes = (
        spark.readStream.format(FORMAT)
        .schema(types)
        .options(
            lake_uri=counted.lake.lake_uri,
            source=counted.source.name,
            table=counted.table,
            folder=f"{counted.folder}/offers",
            database=database,
        )
        .load()
    )
    key, event = _text(counted.lake.key), _text(counted.lake.key)
    if counted.identity:
        first = F.col(quote_name(counted.identity[0]))
        # A row without an event stands for itself. No array of texts looks like this.
        itself = F.concat(F.lit("row "), key)
        event = F.when(first.isNull(), itself).otherwise(_text(counted.identity))
    alive = ~F.col("_deleted")
    versions = changes.select(
        key.alias("key"),
        F.coalesce("_version", F.lit(0)).alias("version"),
        F.unix_micros("_loaded_at").alias("loaded_at"),
        F.col("_file").alias("file"),
        F.col("_row").alias("row"),
        F.when(alive, event).alias("event"),
        F.when(alive, _text(counted.used)).alias("image"),
    )
    rows = versions.groupBy("key").transformWithState(
        LastVersions(), LastVersions.OUT, "Append", "None"
    )
    if not counted.identity:
        return rows.select("sign", "image")
    numbers = [is_number(counted.type_of(name)) for name in counted.lake.key]
    return rows.groupBy("event").transformWithState(Events(numbers), Events.OUT, "Append", "None")


def quote_name(name: str) -> str:
    """A column's name in Spark, whatever characters it has."""
    return "`" + name.replace("`", "``") + "`"


def _text(names: Iterable[str]) -> Column:
    """Columns as a JSON array of their texts. Every value can be read from its text exactly."""
    texts = F.array(*(F.col(quote_name(name)).cast("string") for name in names))
    return F.to_json(texts)


def added(counted: Counted, total: RunningTotal, differences: DataFrame) -> DataFrame:
    """What differences bring, per row of a total, as `TotalTable.added` has it. All are texts."""
    texts = F.from_json("image", "array<string>")
    typed = differences.select("sign", texts.alias("texts")).select(
        "sign",
        *(
            F.col("texts")[place].cast(counted.type_of(name)).alias(name)
            for place, name in enumerate(counted.used)
        ),
    )
    conditions = [F.col(quote_name(total.key)).isNotNull(), *map(_condition, total.where)]
    rows = typed.where(reduce(and_, conditions))
    # The bucket of all time is NULL here. Spark has no infinity.
    buckets = [F.lit(None).cast("long")]
    if set(total.windows) != {"life"} and total.at:
        micros = F.unix_micros(F.col(quote_name(total.at)).cast("timestamp"))
        buckets.append(micros - F.pmod(micros, F.lit(_QUARTER)))
        # Without a time, a row counts in life only.
        listed_buckets = F.when(micros.isNull(), F.array(buckets[0])).otherwise(F.array(*buckets))
    else:
        listed_buckets = F.array(*buckets)
    keys = [F.col(quote_name(total.key)).cast("string").alias("key"), F.col("bucket")]
    if total.by:
        apart = F.coalesce(F.col(quote_name(total.by)).cast("string"), F.lit(""))
        keys.append(apart.alias(total.by))
    sums = [
        F.sum(_signed(counted, column)).cast("string") for column in ("*", *total.measures.values())
    ]
    bucketed = rows.withColumn("bucket", F.explode(listed_buckets))
    result = bucketed.groupBy(*keys).agg(
        *(each.alias(f"sum_{place}") for place, each in enumerate(sums))
    )
    moment = F.concat(F.timestamp_micros("bucket").cast("string"), F.lit("+00"))
    return result.withColumn("bucket", F.coalesce(moment, F.lit("-infinity")))


def _signed(counted: Counted, column: str) -> Column:
    """A measure's value, negative if the row counts no more."""
    if column == "*":
        return F.col("sign").cast("long")
    type_ = counted.type_of(column)
    scale = type_.scale if isinstance(type_, DecimalType) else 0
    # As wide as can be: Spark's sum then has room for all digits, or fails.
    value = F.coalesce(F.col(quote_name(column)), F.lit(0)).cast(DecimalType(38, scale))
    return F.when(F.col("sign") < 0, -value).otherwise(value)


def _condition(where: Where) -> Column:
    column = F.col(quote_name(where.column))
    match where.operator:
        case "is null":
            return column.isNull()
        case "is not null":
            return column.isNotNull()
        case "in" | "not in":
            assert isinstance(where.value, tuple)
            found = column.isin(*where.value)
            return found if where.operator == "in" else ~found
        case "=":
            return column == F.lit(where.value)
        case "<>":
            return column != F.lit(where.value)
        case "<":
            return column < F.lit(where.value)
        case "<=":
            return column <= F.lit(where.value)
        case ">":
            return column > F.lit(where.value)
        case ">=":
            return column >= F.lit(where.value)


class _Sink:
    """Adds what a batch brings to the totals of a table, in one transaction with its number."""

    def __init__(self, warehouse: PostgresConnection, counted: Counted) -> None:
        self.warehouse, self.counted = warehouse, counted

    def __call__(self, batch: DataFrame, number: int) -> None:
        """Called by Spark for each batch, again if it was interrupted."""
        # Each total would make Spark compute the batch and change its state stores again.
        batch.persist()
        try:
            with self.warehouse.connect(application_name="softcart spark totals") as connection:
                self._write(connection, batch, number)
        finally:
            batch.unpersist()

    def _write(self, connection: psycopg.Connection, batch: DataFrame, number: int) -> None:
        tables = keeping.totals_of(connection, self.counted.source, self.counted.table)
        if self._is_done(connection, tables, number):
            # Its rows count already, but Spark fails if a batch leaves state stores as they were.
            batch.write.format("noop").mode("overwrite").save()
            return
        for table in tables:
            add(connection, self.counted, table, SCHEMA, batch)

    def _is_done(
        self, connection: psycopg.Connection, tables: Sequence[TotalTable], number: int
    ) -> bool:
        """Whether the totals have a batch already. Notes that they have it now."""
        place = (self.counted.source.name, self.counted.table)
        query = self._query()
        row = connection.execute(
            "SELECT query, batch FROM ods._spark_batches WHERE (source, table_name) = (%s, %s)"
            " FOR UPDATE",
            place,
        ).fetchone()
        last = row[1] if row and row[0] == query else -1
        if number > last + 1:
            raise TotalsError(
                f"{'.'.join(place)}: the checkpoint has batch {number}, but the totals in "
                f"{SCHEMA} have batch {last}. The warehouse was set back. Delete "
                f"{self.counted.lake.hadoop_path(self.counted.folder)}, then start again. The "
                "table will be counted from the beginning."
            )
        if number <= last:
            return True
        if last < 0:
            # A checkpoint that begins: its totals begin, too.
            keeping.run(connection, f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
            for table in tables:
                keeping.run(connection, f"DROP TABLE IF EXISTS {relation(SCHEMA, table)}")
                keeping.run(connection, table.create(relation(SCHEMA, table)))
        connection.execute(
            "INSERT INTO ods._spark_batches (source, table_name, query, batch)"
            " VALUES (%s, %s, %s, %s) ON CONFLICT (source, table_name) DO UPDATE"
            " SET query = EXCLUDED.query, batch = EXCLUDED.batch, updated_at = now()",
            (*place, query, number),
        )
        return False

    def _query(self) -> str:
        """The id of the query, which Spark makes with the checkpoint."""
        path = f"{self.counted.folder}/checkpoint/metadata"
        with self.counted.lake.store.open_input_stream(path) as stream:
            return str(json.loads(stream.read())["id"])


def add(
    connection: psycopg.Connection,
    counted: Counted,
    table: TotalTable,
    schema: str,
    differences: DataFrame,
) -> None:
    """Add what differences bring to a total's table in a schema."""
    columns = (*table.keys, *table.sums)
    keeping.run(connection, "DROP TABLE IF EXISTS pg_temp.spark_added")
    keeping.run(connection, table.create("pg_temp.spark_added", keyed=False))
    rows = added(counted, table.total, differences)
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY pg_temp.spark_added ({listed(columns)}) FROM STDIN") as copy,
    ):
        # One part at a time: the first batch may have a row for every row of the totals.
        for row in rows.toLocalIterator():
            copy.write_row(tuple(row))
    keeping.run(connection, table.apply(relation(schema, table), "TABLE pg_temp.spark_added"))


def relation(schema: str, table: TotalTable) -> str:
    """A total's table in a schema, quoted."""
    return f"{schema}.{quote(table.name)}"


def start(
    spark: SparkSession, warehouse: PostgresConnection, counted: Counted, every: float | None
) -> StreamingQuery:
    """Start the query of a table, in a session of `prepared`.

    `every`: seconds between batches. None: one batch with what there is, then the end. What other
    declarations have left in the lake is deleted.
    """
    counted.forget_others()
    trigger: dict[str, Any] = (
        {"availableNow": True} if every is None else {"processingTime": f"{every} seconds"}
    )
    return (
        differences(spark, counted, warehouse.database)
        .writeStream.queryName(f"{counted.source.name}.{counted.table}")
        .option("checkpointLocation", counted.lake.hadoop_path(f"{counted.folder}/checkpoint"))
        .outputMode("append")
        .foreachBatch(_Sink(warehouse, counted))
        .trigger(**trigger)
        .start()
    )


def compare(
    connection: psycopg.Connection, table: TotalTable, schema: str = SCHEMA
) -> tuple[int, int]:
    """Return the number of Spark's rows, and how many of all rows differ from those of `ods`."""
    keys, sums = listed(table.keys), [quote(name) for name in table.sums]
    differ = " OR ".join(f"coalesce(s.{n}, 0) <> coalesce(o.{n}, 0)" for n in sums)
    row = connection.execute(
        f"SELECT count(*) FILTER (WHERE s._rows <> 0), count(*) FILTER (WHERE {differ})"
        f" FROM {relation(schema, table)} s FULL JOIN {table.relation} o USING ({keys})".encode()
    ).fetchone()
    assert row
    return row[0], row[1]


def main(sources: Sequence[Source], arguments: Sequence[str] | None = None) -> int:
    """The command line of a line's job. Returns its exit code: 1 if totals differ from `ods`."""
    parser = argparse.ArgumentParser(description="Keep running totals with Spark.")
    parser.add_argument(
        "--every", type=float, help="seconds between batches; without it, one batch, then the end"
    )
    parser.add_argument(
        "--partitions", type=int, default=4, help="state stores per table; fixed by the first run"
    )
    options = parser.parse_args(arguments)
    spark = build_session(
        "totals",
        hive=False,
        settings={"spark.sql.shuffle.partitions": str(options.partitions)},
    )
    try:
        return _run(prepared(spark), sources, options.every)
    finally:
        stop_session(spark)


def _run(spark: SparkSession, sources: Sequence[Source], every: float | None) -> int:
    warehouse = staging()
    tables = _in_lake(warehouse, sources, [])
    missing = _missing(sources, tables)
    if not tables:
        raise TotalsError(
            f"The lake has no table with totals yet. Missing: {', '.join(missing)}. Load their "
            "sources first (`softcart load <source>`)."
        )
    for name in missing:
        print(f"{name}: not in the lake yet, so it is left out", file=sys.stderr)
    with warehouse.connect() as connection:
        _drop_undeclared(connection, sources)
        # Here, because the queries would get in each other's way.
        keeping.run(connection, f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    if every is None:
        return int(sum(_differing(spark, warehouse, table) for table in tables) > 0)
    for table in tables:
        start(spark, warehouse, table, every)
    # Whichever query fails first ends all.
    while not spark.streams.awaitAnyTermination(_LOOK_SECONDS):
        for table in _in_lake(warehouse, sources, tables) if missing else ():
            start(spark, warehouse, table, every)
            tables.append(table)
        missing = _missing(sources, tables)
    return 0


def _in_lake(
    warehouse: PostgresConnection, sources: Sequence[Source], known: Sequence[Counted]
) -> list[Counted]:
    """Return the tables with totals that the lake has, without those that are known."""
    found = []
    with warehouse.connect() as connection:
        for source in sources:
            bookkeeping.prepare(connection, source.schema)
            names = {each.table for each in known if each.source is source}
            found += counted(connection, source, lake_uri(), names)
    return found


def _missing(sources: Sequence[Source], tables: Sequence[Counted]) -> list[str]:
    """Return the tables with totals that are not among these."""
    there = {f"{each.source.name}.{each.table}" for each in tables}
    declared = [f"{source.name}.{total.table}" for source in sources for total in source.totals]
    return [name for name in dict.fromkeys(declared) if name not in there]


def _drop_undeclared(connection: psycopg.Connection, sources: Sequence[Source]) -> None:
    """Drop tables of totals that are not declared here, and that `ods` does not have either."""
    names = connection.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename <> ALL(%s)"
        " AND NOT EXISTS (SELECT FROM ods._totals t WHERE t.name = tablename)",
        (SCHEMA, [total.name for source in sources for total in source.totals]),
    ).fetchall()
    for (name,) in names:
        keeping.run(connection, f"DROP TABLE {SCHEMA}.{quote(name)}")


def _differing(spark: SparkSession, warehouse: PostgresConnection, table: Counted) -> int:
    """Count what is new in a table, and tell how its totals compare with `ods`.

    Returns the number of rows that differ though both have the same changes.
    """
    with warehouse.connect() as connection:
        files = committed_files(connection, table.source.name)[table.table]
    start(spark, warehouse, table, None).awaitTermination()
    wrong = 0
    with warehouse.connect() as connection:
        # Totals, files and positions of one moment.
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        has_all = _has_all(connection, table, files)
        for total in keeping.totals_of(connection, table.source, table.table):
            rows, differing = compare(connection, total)
            told = "as in ods"
            if differing and has_all:
                wrong += differing
                told = f"{differing:,} rows differ from ods"
            elif differing:
                told = (
                    "not compared, because ods has changes that Spark did not have. Stop the "
                    f"stream, run `softcart load {table.source.name}`, then this again"
                )
            print(f"{SCHEMA}.{total.name}: {rows:,} rows, {told}")
    return wrong


def _has_all(connection: psycopg.Connection, table: Counted, files: Sequence[ChangeFile]) -> bool:
    """Return whether these files, which Spark has counted, have all changes that `ods` has."""
    # A stream lists its files from time to time.
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM ingestion.streams WHERE source = %s"
        " AND lake_position IS DISTINCT FROM position)",
        (table.source.name,),
    ).fetchone()
    is_behind = bool(row and row[0])
    listed_now = committed_files(connection, table.source.name).get(table.table)
    return not is_behind and listed_now == files

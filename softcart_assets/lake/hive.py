"""Publishes the lake's tables to a Hive metastore, through its own protocol and without a JVM.

For a table `orders`, Hive has

- `lake_<source>.orders`: the current rows, by month if a partition column is declared.
- `lake_<source>.orders_changes`: every row version that was ever loaded, by `load_date`. It is a
  view of `lake_<source>.orders_change_files`, the whole folder, that reads the merged files only.

A publication compares what Hive has with the state of the table, and changes the differences. So it
may be killed and started again, and it does not matter what an earlier one has told.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from hive_metastore.ThriftHiveMetastore import Client
from hive_metastore.ttypes import (
    AlreadyExistsException,
    Database,
    FieldSchema,
    InvalidOperationException,
    NoSuchObjectException,
    Partition,
    SerDeInfo,
    StorageDescriptor,
    Table,
)
from pyarrow import fs
from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.Thrift import TException
from thrift.transport.TSocket import TSocket
from thrift.transport.TTransport import TBufferedTransport, TTransportException

from softcart_assets.connections import METASTORE, is_local, setting
from softcart_assets.lake.schema import OF_CHANGES
from softcart_assets.lake.table import LakeError, LakeTable, State

# It logs as an error that nobody listens. `MetastoreDown` says that, too, and may be no error.
logging.getLogger("thrift.transport.TSocket").setLevel(logging.CRITICAL)

_SILENT_MILLISECONDS = 300_000

_PARQUET = "org.apache.hadoop.hive.ql.io.parquet"
_TYPES = {"byte": "tinyint", "short": "smallint", "integer": "int", "long": "bigint"}
"""Hive's names of types by Spark's, where they differ."""

Column = Mapping[str, Any]
"""A column as in the state of a table."""

_MONTH, _DATE = (
    {"name": name, "type": type_, "nullable": True, "metadata": {}}
    for name, type_ in (("_month", "string"), ("load_date", "date"))
)


class MetastoreDown(LakeError):
    """No metastore answers at its address."""


def publish(table: LakeTable, tell: Callable[[str], None]) -> None:
    """Make the metastore point at the newest state of a table, if the settings name a metastore.

    Readers see the old rows or the new ones. `tell` gets a message if the local metastore does not
    run: it is told of all tables when it starts. Raises `LakeError` if a metastore cannot be told.
    """
    if not (uri := setting(f"{METASTORE}_URI", "")):
        return
    try:
        with connected(uri) as client:
            _publish(client, table)
    except MetastoreDown:
        if not is_local(METASTORE):
            raise
        tell(f"Hive does not know of {table.full_name} yet. `softcart up` starts the metastore.")


def publish_all(uri: str, lake_uri: str) -> None:
    """Make a metastore point at the newest state of every table of a lake. Raises `LakeError`."""
    with connected(uri) as client:
        for table in _tables(lake_uri):
            _publish(client, table)


def drop(table: LakeTable) -> None:
    """Take a table, and its database if it was the last one, out of the metastore. Files stay."""
    uri = setting(f"{METASTORE}_URI", "")
    # A local metastore was made after the releases that had the tables which are dropped.
    if not uri or is_local(METASTORE):
        return
    with connected(uri) as client, suppress(NoSuchObjectException):
        for suffix in ("_changes", "_change_files", ""):
            with suppress(NoSuchObjectException):
                client.drop_table(table.database, f"{table.name}{suffix}", deleteData=False)
        if not client.get_all_tables(table.database):
            client.drop_database(table.database, deleteData=False, cascade=False)


@contextmanager
def connected(uri: str) -> Iterator[Client]:
    """A client of the metastore at `thrift://host:port`. Raises `LakeError`."""
    address = urlsplit(uri)
    socket = TSocket(address.hostname, address.port or 9083)
    socket.setTimeout(_SILENT_MILLISECONDS)
    transport = TBufferedTransport(socket)
    try:
        transport.open()
        yield Client(TBinaryProtocol(transport))
    # It may also be another program that has the port, and ends the connection.
    except TTransportException as error:
        raise MetastoreDown(
            f"The Hive metastore {uri} cannot be reached: {error}. Start it, or correct "
            f"{METASTORE}_URI, then refresh again."
        ) from error
    except TException as error:
        raise LakeError(f"The Hive metastore {uri} has refused a change: {error}") from error
    finally:
        transport.close()


def _tables(lake_uri: str) -> Iterator[LakeTable]:
    """The tables of a lake."""
    root = LakeTable(lake_uri, "", "").store
    for database in root.get_file_info(fs.FileSelector("warehouse", allow_not_found=True)):
        for folder in root.get_file_info(fs.FileSelector(database.path)):
            table = LakeTable(lake_uri, database.base_name.removesuffix(".db"), folder.base_name)
            if state := table.state():
                key, column = state.layout.get("key", ()), state.layout.get("partition_column")
                table = replace(table, key=tuple(key), partition_column=column)
                # A table that an older release has built is built anew by its next refresh. And
                # what aggregates keep by month is no table for people.
                if state.layout == table.layout:
                    yield table


def _publish(client: Client, table: LakeTable) -> None:
    """Make Hive point at the newest state of a table."""
    told: State | None = None
    # A refresh may have switched the table meanwhile, and have told of it before this did.
    while (state := table.state()) is not None and state != told:
        fields = state.schema["fields"]
        current = [field for field in fields if field["name"] not in OF_CHANGES]
        folders = {month: partition.folder for month, partition in state.partitions.items()}
        if table.partition_column:
            rows = _table(table, "", current, table.folder, _MONTH)
            _put(client, table, rows)
            _point(client, table, rows, folders)
        else:
            _put(client, table, _table(table, "", current, folders[""]))
        if files := set(state.files) - set(state.incoming):
            _publish_changes(client, table, files, fields)
        told = state


def _publish_changes(
    client: Client, table: LakeTable, files: Iterable[str], fields: list[Column]
) -> None:
    """Make Hive's history of a table read these files."""
    # All change files of a table are in one folder, with a folder inside for each date.
    folders = {file.rpartition("/")[0] for file in files}
    dates = {folder.rpartition("load_date=")[2]: folder for folder in folders}
    root = next(iter(folders)).rpartition("/")[0]
    history = _table(table, "_change_files", fields, root, _DATE)
    _put(client, table, history)
    _point(client, table, history, dates)
    # The folders may also hold files of killed loads. So the view names the merged files.
    names = ", ".join(sorted(f"'{file.rpartition('/')[2]}'" for file in files))
    query = (
        f"SELECT * FROM `{history.dbName}`.`{history.tableName}` "
        f"WHERE _metadata.file_name IN ({names})"
    )
    columns = [*fields, _DATE]
    view = Table(
        tableName=f"{table.name}_changes",
        dbName=table.database,
        owner="softcart",
        tableType="VIRTUAL_VIEW",
        partitionKeys=[],
        parameters=_schema(columns),
        sd=StorageDescriptor(cols=_columns(columns), serdeInfo=SerDeInfo(parameters={})),
        viewOriginalText=query,
        viewExpandedText=query,
    )
    _put(client, table, view)


def _columns(fields: Iterable[Column]) -> list[FieldSchema]:
    return [
        FieldSchema(field["name"].lower(), _TYPES.get(field["type"], field["type"]))
        for field in fields
    ]


def _schema(fields: list[Column]) -> dict[str, str]:
    """The properties from which Spark takes the columns: Hive knows them in lower case only."""
    # Databases of metastores hold only so much in a property.
    parts = re.findall(r"(?s).{1,4000}", json.dumps({"type": "struct", "fields": fields}))
    return {
        "spark.sql.sources.schema.numParts": str(len(parts)),
        **{f"spark.sql.sources.schema.part.{n}": part for n, part in enumerate(parts)},
    }


def _table(
    table: LakeTable, suffix: str, fields: list[Column], folder: str, key: Column | None = None
) -> Table:
    """A table as Hive knows it. Its properties are those of a table of Spark's.

    `key`: the column of its partitions.
    """
    keys = [key] if key else []
    properties = _schema([*fields, *keys]) | {
        "EXTERNAL": "TRUE",
        "spark.sql.sources.provider": "parquet",
        "spark.sql.partitionProvider": "catalog",
    }
    if key:
        properties |= {
            "spark.sql.sources.schema.numPartCols": "1",
            "spark.sql.sources.schema.partCol.0": key["name"],
        }
    location = _location(table, folder)
    return Table(
        tableName=f"{table.name}{suffix}",
        dbName=table.database,
        owner="softcart",
        tableType="EXTERNAL_TABLE",
        partitionKeys=_columns(keys),
        parameters=properties,
        sd=StorageDescriptor(
            cols=_columns(fields),
            location=location,
            inputFormat=f"{_PARQUET}.MapredParquetInputFormat",
            outputFormat=f"{_PARQUET}.MapredParquetOutputFormat",
            serdeInfo=SerDeInfo(
                serializationLib=f"{_PARQUET}.serde.ParquetHiveSerDe",
                # The last one: Spark takes brackets in a path for a pattern, unless it is told.
                parameters={
                    "path": location,
                    "serialization.format": "1",
                    "__globPaths__": "false",
                },
            ),
        ),
    )


def _location(table: LakeTable, folder: str) -> str:
    """A folder as Hadoop writes it: with one slash before the path of a file."""
    return re.sub("^file:/+", "file:/", table.hadoop_path(folder))


def _put(client: Client, table: LakeTable, wanted: Table) -> None:
    """Create a table, or alter it if it differs."""
    try:
        found = client.get_table(wanted.dbName, wanted.tableName)
    except NoSuchObjectException:
        folder = f"warehouse/{table.database}.db"
        with suppress(AlreadyExistsException):
            client.create_database(Database(table.database, "", _location(table, folder), {}))
        client.create_table(wanted)
        return
    if _told(found) == _told(wanted) and found.parameters.items() >= wanted.parameters.items():
        return
    try:
        client.alter_table(wanted.dbName, wanted.tableName, wanted)
    except InvalidOperationException:
        # Some metastores refuse to change the type of a column. Dropping the table keeps its files.
        client.drop_table(wanted.dbName, wanted.tableName, deleteData=False)
        client.create_table(wanted)


def _told(table: Table) -> tuple[object, ...]:
    """What a metastore keeps of a table as it was told, besides its properties."""
    columns = [(column.name, column.type) for column in table.sd.cols]
    return columns, table.tableType, table.viewExpandedText, table.sd.serdeInfo.parameters


def _point(client: Client, table: LakeTable, wanted: Table, folders: Mapping[str, str]) -> None:
    """Make a table have exactly these partitions and folders.

    All partitions that differ are altered in one call, which the metastore's database commits as
    one. That switches the readers. So a new partition has no rows before, and one that goes has
    none afterwards.
    """
    name = (wanted.dbName, wanted.tableName)
    columns = _told(wanted)[0]
    known = {part.values[0]: part for part in client.get_partitions(*name, -1)}

    def partition(value: str, folder: str) -> Partition:
        sd = StorageDescriptor(**vars(wanted.sd) | {"location": _location(table, folder)})
        return Partition(values=[value], dbName=name[0], tableName=name[1], sd=sd)

    empty = f"{table.folder}/_empty"
    added = folders.keys() - known.keys()
    if not known:
        client.add_partitions([partition(value, folders[value]) for value in sorted(added)])
        return
    if added:
        client.add_partitions([partition(value, empty) for value in sorted(added)])
    after = {value: partition(value, folders.get(value, empty)) for value in {**known, **folders}}
    changed = [
        part
        for value, part in sorted(after.items())
        if value in added
        or known[value].sd.location != part.sd.location
        or [(column.name, column.type) for column in known[value].sd.cols] != columns
    ]
    if changed:
        client.alter_partitions(*name, changed)
    for value in known.keys() - folders.keys():
        client.drop_partition(*name, [value], deleteData=False)

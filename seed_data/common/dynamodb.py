"""Loads items into the tables of DynamoDB.

A table's mark is a tag of it. So it comes and goes with the table.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from seed_data.common.databases import Advance, mark_of, refusal, write_batches
from seed_data.common.model import SeedError, TableDesign
from softcart_assets.connections import DynamoConnection
from softcart_assets.lines.model import Source, Table

_TAG = "softcart-seed"
_STREAM_VIEW = "NEW_AND_OLD_IMAGES"
_ITEMS_A_REQUEST = 25
"""DynamoDB's limit."""
_REQUESTS_AT_ONCE = 8
_ATTEMPTS = 12


class DynamoDatabase:
    """The DynamoDB tables of one source.

    Parquet files for it have a column `item`: the item as DynamoDB's JSON, binary values as Base64.
    `designs`: by table. A table without one has keys of text.
    """

    def __init__(self, source: Source, designs: Mapping[str, TableDesign] | None = None) -> None:
        self.mark = mark_of(source)
        self._server = DynamoConnection.from_env(source.env_prefix)
        self._client = self._server.client()
        self._declared = [table.at_source for table in source.tables]
        self._designs = designs or {}
        self._setting = f"{source.env_prefix}_TABLE_PREFIX"

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Does nothing. DynamoDB has no lock that ends with its holder.

        The lock on the file of the line keeps out other seeds of this installation.
        """
        yield

    def marks(self) -> Mapping[str, str]:
        """The mark of each of our tables. Raises `SeedError` if another one has a name of ours.

        A region's other tables may be anybody's, and nothing of them is looked at.
        """
        found = {name: self._mark_at(name) for name in self._declared if self._describe(name)}
        theirs = [name for name, mark in found.items() if not mark.startswith(self.mark)]
        if theirs:
            raise SeedError(
                refusal(
                    f"DynamoDB in region {self._server.region} holds tables", theirs, self._setting
                )
            )
        return found

    def recreate(self, tables: Collection[Table]) -> None:
        """Make these tables anew, empty. What is no longer declared has no name that we know."""
        for table in tables:
            if self._describe(table.at_source):
                self._client.delete_table(TableName=self._name(table.at_source))
        for table in tables:
            self._wait_for(table.at_source, "table_not_exists")
            self._create(table)
        for table in tables:
            self._wait_for(table.at_source, "table_exists")
            if attribute := self._design(table).expires_at:
                self._client.update_time_to_live(
                    TableName=self._name(table.at_source),
                    TimeToLiveSpecification={"Enabled": True, "AttributeName": attribute},
                )

    def load(self, table: Table, directory: Path, advance: Advance) -> int:
        """Write the items, some requests at once."""

        def put(batch: pa.RecordBatch) -> None:
            self.put(table, [json.loads(text) for text in batch.column("item").to_pylist()])

        return write_batches(directory, _ITEMS_A_REQUEST, put, _REQUESTS_AT_ONCE, advance)

    def put(self, table: Table, items: Sequence[Mapping[str, Any]]) -> int:
        """Write up to 25 items. Returns their number. Raises `SeedError` if the table is too slow.

        What DynamoDB has no capacity for is written again, ever more slowly.
        """
        name = self._name(table.at_source)
        requests: list[Any] = [{"PutRequest": {"Item": from_json(item)}} for item in items]
        for attempt in range(_ATTEMPTS):
            answer = self._client.batch_write_item(RequestItems={name: requests})
            requests = answer.get("UnprocessedItems", {}).get(name, [])
            if not requests:
                return len(items)
            time.sleep(min(0.05 * 2**attempt, 10))
        raise SeedError(
            f"DynamoDB table {name!r} took {len(requests)} items in none of {_ATTEMPTS} attempts. "
            "Give it more write capacity."
        )

    def complete(self, tables: Collection[Table], parameters: str) -> None:
        """Record that these tables are loaded."""
        for table in tables:
            described = self._describe(table.at_source)
            if described:
                self._client.tag_resource(
                    ResourceArn=described["TableArn"],
                    Tags=[{"Key": _TAG, "Value": f"{self.mark} {parameters}"}],
                )

    def add_further(self) -> None:
        """See `Database`. All that is here is declared."""

    def _create(self, table: Table) -> None:
        design, server = self._design(table), self._server
        names = [*table.key, *(name for index in design.indexes for name in index.fields)]
        units = {
            "ReadCapacityUnits": int(server.read_units),
            "WriteCapacityUnits": int(server.write_units),
        }
        is_on_demand = not any(units.values())
        # An index has a capacity of its own.
        capacity: dict[str, Any] = {} if is_on_demand else {"ProvisionedThroughput": units}
        indexes = [
            {
                "IndexName": index.name,
                "KeySchema": _key_schema(index.fields),
                "Projection": {"ProjectionType": "ALL"},
                **capacity,
            }
            for index in design.indexes
        ]
        self._client.create_table(
            TableName=self._name(table.at_source),
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": design.types.get(name, "S")}
                for name in dict.fromkeys(names)
            ],
            KeySchema=_key_schema(table.key),
            StreamSpecification={"StreamEnabled": True, "StreamViewType": _STREAM_VIEW},
            Tags=[{"Key": _TAG, "Value": self.mark}],
            BillingMode="PAY_PER_REQUEST" if is_on_demand else "PROVISIONED",
            **capacity,
            **({"GlobalSecondaryIndexes": indexes} if indexes else {}),
        )

    def _design(self, table: Table) -> TableDesign:
        return self._designs.get(table.at_source, TableDesign())

    def _name(self, at_source: str) -> str:
        return self._server.table_prefix + at_source

    def _wait_for(self, at_source: str, state: str) -> None:
        self._client.get_waiter(state).wait(
            TableName=self._name(at_source), WaiterConfig={"Delay": 1, "MaxAttempts": 120}
        )

    def _describe(self, at_source: str) -> Mapping[str, Any] | None:
        try:
            found: Mapping[str, Any] = self._client.describe_table(TableName=self._name(at_source))
        except self._client.exceptions.ResourceNotFoundException:
            return None
        table: Mapping[str, Any] = found["Table"]
        return table

    def _mark_at(self, at_source: str) -> str:
        described = self._describe(at_source)
        if not described:
            return ""
        tags = self._client.list_tags_of_resource(ResourceArn=described["TableArn"])["Tags"]
        return next((str(tag["Value"]) for tag in tags if tag["Key"] == _TAG), "")


def _key_schema(names: Sequence[str]) -> list[dict[str, str]]:
    kinds = ("HASH", "RANGE")
    return [
        {"AttributeName": name, "KeyType": kind} for name, kind in zip(names, kinds, strict=False)
    ]


def from_json(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item of DynamoDB's JSON as the client takes it: its binary values are bytes."""
    return {name: _from_json(value) for name, value in item.items()}


def _from_json(value: Mapping[str, Any]) -> dict[str, Any]:
    ((type_, inner),) = value.items()
    match type_:
        case "B":
            return {"B": base64.b64decode(inner)}
        case "BS":
            return {"BS": [base64.b64decode(each) for each in inner]}
        case "L":
            return {"L": [_from_json(each) for each in inner]}
        case "M":
            return {"M": from_json(inner)}
    return {type_: inner}

"""Audit of an aggregate: its sums are those of the lake tables that it is computed from.

Spark computes the aggregate, by month and with joins. DuckDB adds the lake up, in one plain query.
So a mistake of one is no mistake of the other. The data files never change, and an aggregate is
audited when it was computed, before anybody can read it. So nothing is read twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from softcart_assets.lake import LakeTable, Partition, State, from_json, lake_table
from softcart_assets.lake.merge import engine
from softcart_assets.lake.rows import files_of
from softcart_assets.lines.model import Table
from spark.jobs import Job


def differing_totals(
    job: Job, aggregate: LakeTable, computed: Partition, lake_uri: str
) -> list[str]:
    """What differs, a text per column of the job's totals. Raises `LakeError`.

    `computed`: the folder of the aggregate with the rows that it shall have.
    """
    # It imports pandas: 0.4 CPU seconds in each process that loads the definitions.
    import pyarrow as pa
    import pyarrow.dataset as ds

    class Unlocked(ds.FileSystemDataset):  # type: ignore[misc]
        """A dataset whose start does not keep Python's lock.

        Threads that open files of HDFS need it, and the start may wait for them: for ever.
        """

        def scanner(self, **named: Any) -> Unlocked.Reader:
            return self.Reader(super().scanner(**named))

        class Reader:
            def __init__(self, scanner: ds.Scanner) -> None:
                self._scanner = scanner

            def to_reader(self) -> pa.RecordBatchReader:
                schema, batches = self._scanner.projected_schema, self._scanner.to_batches()
                return pa.RecordBatchReader.from_batches(schema, batches)

    def dataset(
        table: LakeTable, partitions: Iterable[Partition], schema: pa.Schema | None = None
    ) -> ds.Dataset:
        files = [file for partition in partitions for file in files_of(table, partition)]
        found = ds.dataset(files, schema, filesystem=table.store, format="parquet")
        return Unlocked(list(found.get_fragments()), found.schema, found.format, found.filesystem)

    def columns(declared: Table, state: State | None) -> pa.Schema:
        # The oldest file may lack what later documents have. What none has is null, as for the job.
        known = from_json(state.schema) if state else pa.schema([])
        missing = [each.name for each in declared.columns if each.name not in known.names]
        return pa.schema([*known, *(pa.field(name, pa.null()) for name in missing)])

    if not job.totals:
        return []
    found = []
    with engine(aggregate) as duckdb:
        duckdb.register("aggregate", dataset(aggregate, [computed]))
        for source, declared in job.inputs:
            table = lake_table(source, declared, lake_uri)
            state = table.state()
            rows = dataset(
                table, state.partitions.values() if state else (), columns(declared, state)
            )
            duckdb.register(f"{source.name}.{declared.name}", rows)
        for column, query in job.totals.items():
            # The sum of no rows is null.
            ours, theirs = (
                (duckdb.execute(each).fetchone() or (0,))[0] or 0
                for each in (f"SELECT sum({column}) FROM aggregate", query)
            )
            if ours != theirs:
                found.append(f"{column} is {ours}, and in the lake {theirs}")
    return found

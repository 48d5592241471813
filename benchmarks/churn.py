"""How near the model `churn` comes to the best that is possible, and what it costs.

    python -m benchmarks.churn [--scale 1]

The generator of the made-up operator knows the true hazard of each subscriber and month. Its AUC is
that of the best possible model, the oracle. Features come from Spark as in production, but from
the generator's files and not from the lake. It needs no server. Results are printed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psutil
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from seed_data.common.model import Output
from seed_data.common.parameters import Parameters
from seed_data.telecom import truth
from seed_data.telecom.generator import generate
from softcart_assets.lines.telecom.models import MODELS
from softcart_assets.ml.judge import Rows, auc, judge, predictions
from softcart_assets.ml.sampling import Numbers
from spark.jobs import JOBS
from spark.session import build_session, stop_session

_JOB = JOBS["agg_churn_features_by_subscriber_month"]
[_MODEL] = MODELS
_UNTIL = datetime(2026, 11, 27, 12, tzinfo=UTC)


def run(scale: float, seed: int) -> None:
    """Make the operator, predict who leaves, and print the figures."""
    parameters = Parameters(scale, seed, _UNTIL)
    # As in a run of the assets, whose session is short at scale 1.
    spark = build_session("bench", hive=False, short=scale <= 1)
    try:
        with tempfile.TemporaryDirectory(prefix="softcart-churn-") as folder:
            names = [f"{source.name}.{table.name}" for source, table in _JOB.inputs]
            files = Output(Path(folder), names, lambda: spark, lambda table, path: None)
            generate(parameters, files)
            with _timed("features"):
                inputs = [_history(spark, Path(folder) / name) for name in names]
                rows = _rows(_JOB.transform(*inputs))
            known = truth.leaving(spark, parameters).select("subscriber_id", "month", "hazard")
            hazards = {
                (row.subscriber_id, _number(row.month)): row.hazard for row in known.collect()
            }
    finally:
        stop_session(spark)
    with _timed("judgement"):
        found = judge(_MODEL, rows)
    if found is None:
        print("There is too little to learn from. Use a larger scale.")
        return
    _, of = predictions(_MODEL, rows)
    pairs = zip(of.subjects.tolist(), of.months.tolist(), strict=True)
    best = auc(
        np.array([hazards[pair] for pair in pairs]),
        of.targets.astype(bool),
        np.ones((1, len(of.targets)), np.uint16),
    ).value
    reached = (found.auc.value - 0.5) / (best - 0.5)
    print(f"AUC {found.auc}, oracle {best:.3f}, reached {reached:.1%} of (oracle - 0.5)")
    print(f"calibration error {found.calibration_error:.4f}, lift of the top decile {found.lift}")
    print(f"{found.rows:,} predictions, {found.events:,} of them left")


def _history(spark: SparkSession, file: Path) -> DataFrame:
    """A table of the generator as the lake has it after the first load."""
    return spark.read.parquet(str(file)).select(
        "*",
        F.lit(1).cast("long").alias("_version"),
        F.lit(False).alias("_deleted"),
        F.lit(None).cast("string").alias("_operation"),
        F.lit(None).cast("timestamp").alias("_committed_at"),
        F.lit(_UNTIL).alias("_loaded_at"),
        F.lit("p").alias("_position"),
        F.lit(0).alias("_place"),
    )


def _rows(features: DataFrame) -> Rows:
    found = sorted(features.collect(), key=lambda row: (row.month, row.subscriber_id))
    values: Numbers = np.array(
        [[float(row[each.name]) for each in _MODEL.inputs] for row in found], np.float64
    )
    targets = [np.nan if row.leaves is None else float(row.leaves) for row in found]
    return Rows(
        np.array([row.subscriber_id for row in found], np.int64),
        np.array([_number(row.month) for row in found], np.int64),
        values,
        np.array(targets, np.float64),
    )


def _number(month: datetime) -> int:
    return month.year * 12 + month.month - 1


@contextmanager
def _timed(what: str) -> Iterator[None]:
    started, computed = time.monotonic(), _cpu_seconds()
    yield
    print(f"{what}: {time.monotonic() - started:.1f} s, {_cpu_seconds() - computed:.1f} s of CPU")


def _cpu_seconds() -> float:
    """Processor seconds of this process and of Java."""
    this = psutil.Process()
    times = [each.cpu_times() for each in (this, *this.children(recursive=True))]
    return sum(each.user + each.system for each in times)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.churn", description=__doc__)
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--seed", type=int, default=42)
    arguments = parser.parse_args()
    run(arguments.scale, arguments.seed)

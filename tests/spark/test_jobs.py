"""The registry of Spark jobs: lineage and the version of their code."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from softcart_assets.dbt import PROJECT_DIR
from spark import jobs
from spark.jobs import JOBS, Job, dates


@pytest.mark.parametrize("name", JOBS)
def test_lineage_names_declared_columns_of_the_jobs_inputs(name: str) -> None:
    declared = {
        f"{source.name}.{table.name}.{column.name}"
        for source, table in JOBS[name].inputs
        for column in table.columns
    }
    named = {origin for origins in JOBS[name].lineage.values() for origin in origins}
    assert named <= declared


def test_the_version_of_a_jobs_code_covers_what_it_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tried"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "shared.py").write_text("from spark.jobs.tried import deeper\n")
    (folder / "deeper.py").write_text("RATE = 1\n")
    (folder / "unused.py").write_text("")
    (folder / "agg_a.py").write_text(
        "from spark.jobs import run\nfrom .shared import deeper\nLINEAGE = {}\n"
    )
    monkeypatch.setattr(jobs, "__path__", [*jobs.__path__, str(tmp_path)])
    job = Job("agg_a", "tried", ())
    try:
        versions = [job.code_version]
        for changed in ("unused", "deeper", "shared", "agg_a"):
            with (folder / f"{changed}.py").open("a") as file:
                file.write("# changed\n")
            # What is loaded stays as it is. A later process has the new text.
            assert job.code_version == versions[-1]
            jobs._text.cache_clear()
            versions.append(job.code_version)
    finally:
        jobs._text.cache_clear()
        for name in [name for name in sys.modules if name.startswith("spark.jobs.tried")]:
            del sys.modules[name]
    assert versions[0] == versions[1]
    assert len(set(versions)) == 4


def test_the_calendar_of_the_jobs_is_that_of_the_warehouse() -> None:
    """Otherwise an event would be in a month there and in none here."""
    variables = yaml.safe_load((PROJECT_DIR / "dbt_project.yml").read_text())["vars"]
    calendar = variables["calendar_start"], variables["calendar_end"]
    assert (dates.CALENDAR_START[:10], dates.CALENDAR_END[:10]) == calendar
    keys = (PROJECT_DIR / "macros" / "keys.sql").read_text()
    assert f"'{dates.UNKNOWN_DATE}'::date" in keys

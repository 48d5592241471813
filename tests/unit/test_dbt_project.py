"""What the dbt project's files promise, read without dbt and without a server."""

import time
from pathlib import Path

import pytest
import yaml

from softcart_assets import dbt
from softcart_assets.assembly import LINES
from softcart_assets.ingestion.connectors import connector

MODELS = Path(__file__).parents[2] / "dbt_project" / "models"

ENGINE_COLUMNS = {"_deleted", "_loaded_at", "_position", "_version"}
HISTORY_COLUMNS = ENGINE_COLUMNS | {"_committed_at"}


def declared(kind: str) -> list[dict]:
    """All entries of that kind (`models`, `sources`) in the project's YAML files."""
    return [
        entry
        for file in MODELS.rglob("*.yml")
        for entry in yaml.safe_load(file.read_text()).get(kind, [])
    ]


@pytest.mark.parametrize("source", LINES.sources, ids=lambda source: source.name)
def test_dbt_sources_agree_with_the_declared_source_systems(source):
    [described] = [entry for entry in declared("sources") if entry["name"] == source.schema]
    expected = {}
    for table in source.tables:
        columns = set(table.privacy) | set(connector(source.kind).own_columns)
        expected[table.name] = columns | ENGINE_COLUMNS
        if table.history:
            expected[f"{table.name}_history"] = columns | HISTORY_COLUMNS
    assert {
        table["name"]: {column["name"] for column in table["columns"]}
        for table in described["tables"]
    } == expected
    for table in described["tables"]:
        assert table["description"].startswith("One "), table["name"]
        assert all(column["description"] for column in table["columns"]), table["name"]


def test_every_raw_table_has_its_staging_view():
    expected = {
        f"stg_{source.name}__{table.name}" for source in LINES.sources for table in source.tables
    }
    assert expected <= {file.stem for file in MODELS.glob("staging/*/*.sql")}


def test_every_model_states_its_grain_and_describes_its_columns():
    models = {model["name"]: model for model in declared("models")}
    assert set(models) == {file.stem for file in MODELS.rglob("*.sql")}
    for name, model in models.items():
        assert model["description"].startswith("One row per "), name
        # That these are all columns there are is what the enforced contract checks at every build.
        assert model["columns"], name
        assert all(column["description"] and column["data_type"] for column in model["columns"]), (
            name
        )


def test_only_staging_reads_raw_tables():
    for file in MODELS.glob("warehouse/**/*.sql"):
        assert "source('raw_" not in file.read_text(), file.name
    for file in MODELS.glob("staging/**/*.sql"):
        assert "ref(" not in file.read_text(), file.name


def test_every_model_has_tests_and_every_staging_view_its_key():
    keyless = {f"stg_{source.name}__{t.name}" for source, t in LINES.tables() if not t.key}
    for model in declared("models"):
        kinds = {kind for test in model.get("data_tests", []) for kind in test}
        assert kinds, model["name"]
        # Deleted rows of several tables have no key in common.
        without = model["name"].endswith("__deleted_rows") or model["name"] in keyless
        if model["name"].startswith("stg_") and not without:
            assert "primary_key" in kinds, model["name"]


def test_models_are_named_after_their_folder():
    for file in MODELS.glob("staging/*/*.sql"):
        assert file.stem.startswith(f"stg_{file.parent.name}__"), file.name
    for file in MODELS.glob("warehouse/*/*.sql"):
        assert file.stem.startswith(("dim_", "fct_", f"int_{file.parent.name}__")), file.name


@pytest.fixture
def project(monkeypatch, tmp_path):
    """A dbt project in a folder of its own, whose parser is a script of the test."""
    (tmp_path / "models").mkdir()
    for name in ("dbt_project.yml", "profiles.yml", "models/one.sql"):
        (tmp_path / name).touch()
    monkeypatch.setattr(dbt, "PROJECT_DIR", tmp_path)
    monkeypatch.setattr(dbt, "MANIFEST", tmp_path / "target" / "manifest.json")
    monkeypatch.setattr(dbt, "PARSED_FOR", tmp_path / "target" / "parsed_for")
    monkeypatch.setattr(dbt, "DBT", tmp_path / "dbt")
    time.sleep(0.02)  # the clock of a file system moves in steps
    return tmp_path


def _parser(project, script):
    (project / "dbt").write_text(f"#!/bin/sh\ntouch target/manifest.json\n{script}\n")
    (project / "dbt").chmod(0o755)


def test_a_model_that_is_saved_while_dbt_parses_is_parsed_the_next_time(project):
    _parser(project, "sleep 0.1; touch models/one.sql; sleep 0.1")
    dbt.prepare_manifest()
    assert not dbt.manifest_is_current()
    _parser(project, "")
    dbt.prepare_manifest()
    assert dbt.manifest_is_current()


@pytest.mark.parametrize("name", ["profiles.yml", "dbt_project.yml", "models/one.sql"])
def test_a_changed_file_makes_the_manifest_old(project, name):
    _parser(project, "")
    dbt.prepare_manifest()
    assert dbt.manifest_is_current()
    time.sleep(0.02)
    (project / name).touch()
    assert not dbt.manifest_is_current()


def test_a_parse_that_fails_leaves_the_manifest_old(project):
    _parser(project, "")
    dbt.prepare_manifest()
    time.sleep(0.02)
    (project / "models/one.sql").touch()
    _parser(project, "echo no such model; exit 1")
    with pytest.raises(dbt.DbtParseFailed, match="no such model"):
        dbt.prepare_manifest()
    assert not dbt.manifest_is_current()


def test_a_missing_manifest_names_the_command_that_makes_it(monkeypatch, tmp_path):
    monkeypatch.setattr(dbt, "MANIFEST", tmp_path / "manifest.json")
    dbt.read_manifest.cache_clear()
    with pytest.raises(dbt.ManifestMissing, match="make manifest"):
        dbt.read_manifest()

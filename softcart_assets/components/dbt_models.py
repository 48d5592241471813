"""The dbt models as assets and dbt's tests as checks.

One op builds the shared models, and one op per line builds the rest. So a failing test of one line
stops the models of that line and no others.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import psycopg
from dagster_dbt import DagsterDbtTranslator, DbtCliResource, DbtProject, dbt_assets
from dagster_dbt.errors import DagsterDbtCliRuntimeError
from psycopg import sql

from softcart_assets import warehouse_state
from softcart_assets.assembly import Lines
from softcart_assets.components.conditions import FOLLOWS_UPSTREAM, POOL
from softcart_assets.components.failed_tests import explained
from softcart_assets.components.keys import raw_keys
from softcart_assets.dbt import PROJECT_DIR, Manifest, ended_with_us
from softcart_assets.ingestion import bookkeeping
from softcart_assets.ingestion.raw_tables import raw_tables_held
from softcart_assets.lines.model import Line
from softcart_assets.resources import PostgresResource


class MisplacedModel(RuntimeError):
    """A dbt model is in a folder of no line and no source. The message names it."""


class UnassignedTest(RuntimeError):
    """A dbt test belongs to no model, so no op would run it. The message names it."""


class LineTranslator(DagsterDbtTranslator):
    """Takes names and descriptions from dbt, owners from folders, groups from schemas."""

    def __init__(self, owners: Mapping[tuple[str, str], str]) -> None:
        super().__init__()
        self.owners = owners

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str:
        """The layer, which is the schema."""
        return str(dbt_resource_props["schema"])

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> list[str]:
        """The owner of the line, or of the source that a staging model reads."""
        return [self.owners[_folder(dbt_resource_props)]]

    def get_automation_condition(
        self, dbt_resource_props: Mapping[str, Any]
    ) -> dg.AutomationCondition[Any]:
        """Models follow what they read."""
        return FOLLOWS_UPSTREAM


def dbt_models(lines: Lines, manifest: Manifest) -> list[dg.AssetsDefinition]:
    """The models of all lines, split so that no op waits for another line's tests.

    `dbt_conformed`: the conformed models and everything that they read. `dbt_<line>`: the line's
    other models. Raises `MisplacedModel`, `UnassignedTest`.
    """
    translator = LineTranslator(
        {folder: owner for line in lines for folder, owner in _folders(line).items()}
    )
    for node in _nodes(manifest, "model"):
        if _folder(node) not in translator.owners:
            raise MisplacedModel(
                f"dbt_project/{node['original_file_path']} is in no folder of a line of business. "
                "Move it to models/staging/<source>/ or models/warehouse/<line>/, or declare the "
                "line in softcart_assets/lines/."
            )
    _check_assignment(manifest)
    shared = _and_upstream(lines.conformed, manifest)
    found = [_models(f"dbt_{lines.conformed.name}", lines, translator, manifest, shared)]
    for line in lines:
        folders = _folders(line)
        own = {node["name"] for node in _nodes(manifest, "model") if _folder(node) in folders}
        if own - shared:
            found.append(_models(f"dbt_{line.name}", lines, translator, manifest, own - shared))
    return found


def _and_upstream(line: Line, manifest: Manifest) -> set[str]:
    """The names of the warehouse models of a line and of all models that they read."""
    models = {node["unique_id"]: node for node in _nodes(manifest, "model")}
    found: set[str] = set()
    wanted = [each for each, node in models.items() if _folder(node) == ("warehouse", line.name)]
    while wanted:
        node = models[wanted.pop()]
        found.add(node["name"])
        wanted += [each for each in node["depends_on"]["nodes"] if each in models]
    return found


def _folders(line: Line) -> dict[tuple[str, str], str]:
    """The folders of a line's models, layer and name, with their owners."""
    sources = {("staging", source.name): line.owner_of(source) for source in line.sources}
    return sources | {("warehouse", line.name): line.owner}


def _folder(node: Mapping[str, Any]) -> tuple[str, str]:
    # The name of the project, then the folders below `models/`.
    # A model in the root of `models/` has none.
    folders = [*node["fqn"][1:], "", ""]
    return folders[0], folders[1]


def _nodes(manifest: Manifest, resource_type: str) -> Iterator[dict[str, Any]]:
    nodes = manifest["nodes"].values()
    return (node for node in nodes if node["resource_type"] == resource_type)


def captured_tables_read(
    lines: Lines, manifest: Manifest, models: set[str]
) -> set[tuple[str, str]]:
    """The captured tables, by source and name, that models read by themselves or by other models.

    Staging models are views, so whoever reads one reads the raw table.
    """
    nodes = {**manifest["nodes"], **manifest["sources"]}
    found: set[str] = set()
    wanted = [node["unique_id"] for node in _nodes(manifest, "model") if node["name"] in models]
    while wanted:
        if (each := wanted.pop()) not in found:
            found.add(each)
            wanted += nodes[each].get("depends_on", {}).get("nodes", [])
    read = {(nodes[each]["schema"], nodes[each]["name"]) for each in found}
    return {
        (source.name, table.name)
        for source in lines.sources
        for table in source.tables
        if table.strategy == "cdc"
        and any(tuple(key.path) in read for key in raw_keys(source, table))
    }


def _models(
    name: str, lines: Lines, translator: LineTranslator, manifest: Manifest, models: set[str]
) -> dg.AssetsDefinition:
    """The op that builds these models.

    It selects them by name. An `exclude` would drop every test that also reads an excluded model.
    """
    # `prepare_if_dev` is not called here, see `softcart_assets.dbt`.
    project = DbtProject(project_dir=PROJECT_DIR, profiles_dir=PROJECT_DIR)
    reads = captured_tables_read(lines, manifest, models)

    @dbt_assets(
        manifest=manifest,
        project=project,
        dagster_dbt_translator=translator,
        name=name,
        select=" ".join(sorted(models)),
        pool=POOL,
    )
    def build(
        context: dg.AssetExecutionContext, dbt: DbtCliResource, staging: PostgresResource
    ) -> Iterator[Any]:
        """Run `dbt build` for the selected models, in one process.

        If only checks are selected, `dbt test` runs them. `dbt build` would skip checks of models
        after a failed check. Unit tests belong to the test suite and are left out. Loads wait
        meanwhile, so models and tests see one state of the raw tables. If this process is killed,
        dbt ends with it: it must not go on when the raw tables change again.
        """
        command = "build" if context.selected_asset_keys else "test"
        arguments = [command, "--exclude-resource-type", "unit_test"]
        if others := unselected_tests(
            manifest,
            {key.path[-1] for key in context.selected_asset_keys},
            {key.name for key in context.selected_asset_check_keys},
        ):
            arguments += ["--exclude", " ".join(others)]
        with (
            raw_tables_held(
                staging.connection(), exclusive=True, tell=context.log.info, reads=reads
            ),
            staging.connection().connect(autocommit=True) as session,
        ):
            # Here the incremental models record how far they have read the changes.
            warehouse_state.prepare(session, "dbt_state")
            # After an upgrade, models read columns that this adds to the raw tables.
            for source in lines.sources:
                bookkeeping.prepare(session, source.schema)
            invocation = dbt.cli(arguments, context=context)
            told = []
            try:
                with ended_with_us(invocation.process):
                    for event in invocation.stream().fetch_row_counts().fetch_column_metadata():
                        if isinstance(event, dg.AssetCheckResult) and not event.passed:
                            event = explained(
                                session, lines, manifest, invocation.target_path, event
                            )
                            context.log.warning(event.description)
                            if event.severity == dg.AssetCheckSeverity.ERROR:
                                told.append(event.description or "")
                        yield _with_row_count(session, event)
            except DagsterDbtCliRuntimeError as error:
                # dbt's own message has the number of rows only.
                for text in told:
                    error.add_note(text)
                raise

    return build


def unselected_tests(manifest: Manifest, models: set[str], checks: set[str]) -> list[str]:
    """Tests that read these models and are none of these checks, in dbt's syntax of selection.

    dbt would run them with the models. But they check other models, which may be built later, in
    another op or another run. A test of a fact that is held back would find the new rows of a
    staging model missing, and its failure would end the run.
    """
    selected = {node["unique_id"] for node in _nodes(manifest, "model") if node["name"] in models}
    return [
        ".".join(test["fqn"])
        for test in _nodes(manifest, "test")
        if test["name"] not in checks and selected.intersection(test["depends_on"]["nodes"])
    ]


def _check_assignment(manifest: Manifest) -> None:
    """Raise `UnassignedTest` for a test of several models that does not name the one it checks."""
    names = {node["unique_id"]: node["name"] for node in _nodes(manifest, "model")}
    for test in _nodes(manifest, "test"):
        reads = [names[each] for each in test["depends_on"]["nodes"] if each in names]
        named = test["config"]["meta"].get("dagster", {}).get("ref", {}).get("name")
        # dbt attaches a generic test to its model.
        if len(reads) > 1 and not named and test.get("attached_node") not in names:
            raise UnassignedTest(
                f"dbt_project/{test['original_file_path']} reads {', '.join(sorted(reads))}, and "
                "does not say which of them it checks, so it would never run. Name the model in "
                "the test: {{ config(meta={'dagster': {'ref': {'name': '<model>'}}}) }}"
            )


def _with_row_count(session: psycopg.Connection, event: Any) -> Any:
    """Add the row count to the event of a view. dagster-dbt adds it only for tables."""
    if not isinstance(event, dg.Output) or "dagster/row_count" in event.metadata:
        return event
    view = sql.Identifier(*event.output_name.split("__", 1))
    row = session.execute(sql.SQL("SELECT count(*) FROM {}").format(view)).fetchone()
    return event.with_metadata({**event.metadata, "dagster/row_count": row[0] if row else 0})

"""The dbt models as assets and dbt's tests as checks.

One op builds the shared models, and one op per line builds the rest. So a failing test of one line
stops the models of that line and no others. An op before them builds the lines' customers, which
are compared before the shared models are built.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
from psycopg import sql

from softcart_assets import warehouse_state
from softcart_assets.assembly import Lines
from softcart_assets.components.dbt_runs import DbtFailed, run_dbt
from softcart_assets.components.dbt_tests import description
from softcart_assets.components.failed_tests import compiled_sql, explained
from softcart_assets.components.identities import customer_versions
from softcart_assets.components.keys import raw_keys, table_name
from softcart_assets.components.model_columns import column_types, kept_lineage
from softcart_assets.components.pool import POOL
from softcart_assets.dbt import PROJECT_DIR, Manifest
from softcart_assets.extracts.kept import digest
from softcart_assets.ingestion import bookkeeping
from softcart_assets.lines.model import Line
from softcart_assets.resources import BUILDS_MODELS, PostgresResource, RawStateResource

_MATERIALIZATIONS = ("view", "table", "incremental")


class MisplacedModel(RuntimeError):
    """A dbt model is in a folder of no line and no source. The message names it."""


class UnknownMaterialization(RuntimeError):
    """A dbt model is neither a view nor a table. The message names it."""


class UnassignedTest(RuntimeError):
    """A dbt test belongs to no model, so no op would run it. The message names it."""


def dbt_models(lines: Lines, manifest: Manifest) -> list[dg.AssetsDefinition]:
    """The models of all lines, split so that no op waits for another line's tests.

    `dbt_customers`: the customers of each line, and everything that they read. `dbt_conformed`: the
    conformed models and the rest of what they read. `dbt_<line>`: the line's other models.

    Raises `MisplacedModel`, `UnknownMaterialization` and `UnassignedTest`.
    """
    owners = {folder: owner for line in lines for folder, owner in _folders(line).items()}
    models = list(_nodes(manifest, "model"))
    for node in models:
        if _folder(node) not in owners:
            raise MisplacedModel(
                f"dbt_project/{node['original_file_path']} is in no folder of a line of business. "
                "Move it to models/staging/<source>/ or models/warehouse/<line>/, or declare the "
                "line in softcart_assets/lines/."
            )
        if (kind := node["config"]["materialized"]) not in _MATERIALIZATIONS:
            raise UnknownMaterialization(
                f"dbt_project/{node['original_file_path']} is materialized as {kind!r}. Marks and "
                f"column types are kept of {', '.join(_MATERIALIZATIONS)} only. Use one of these."
            )
    compared = set(customer_versions(lines, manifest).values())
    customers = _and_upstream(
        (node["unique_id"] for node in models if node["name"] in compared), manifest
    )
    folder = ("warehouse", lines.conformed.name)
    shared = _and_upstream(
        (node["unique_id"] for node in models if _folder(node) == folder), manifest
    )
    specs = {node["name"]: _spec(manifest, node, owners[_folder(node)]) for node in models}
    checks = _check_specs(manifest)

    def op(title: str, names: set[str]) -> dg.AssetsDefinition:
        mine = {name: specs[name] for name in sorted(names)}
        return _op(f"dbt_{title}", lines, manifest, mine, checks)

    found = [op("customers", customers)] if customers else []
    found.append(op(lines.conformed.name, shared - customers))
    for line in lines:
        folders = _folders(line)
        own = {node["name"] for node in models if _folder(node) in folders}
        if rest := own - shared - customers:
            found.append(op(line.name, rest))
    return found


def _and_upstream(ids: Iterable[str], manifest: Manifest) -> set[str]:
    """The names of models and of all models that they read."""
    models = {node["unique_id"]: node for node in _nodes(manifest, "model")}
    found: set[str] = set()
    wanted = list(ids)
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


def _key(node: Mapping[str, Any]) -> dg.AssetKey:
    return dg.AssetKey([node["schema"], node["name"]])


def _parents(manifest: Manifest, node: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The models and sources that a model or a test reads."""
    nodes, sources = manifest["nodes"], manifest["sources"]
    return [nodes.get(each) or sources[each] for each in node["depends_on"]["nodes"]]


def _spec(manifest: Manifest, node: Mapping[str, Any], owner: str) -> dg.AssetSpec:
    """A model as an asset: what its files say, and the layer as group."""
    columns = [
        dg.TableColumn(name, column["data_type"] or "?", column["description"])
        for name, column in node["columns"].items()
    ]
    return dg.AssetSpec(
        _key(node),
        deps={_key(each) for each in _parents(manifest, node)},
        description=node["description"],
        metadata={
            **table_name(_key(node)),
            # Not the SQL itself: up to 7,000 characters of it would hide what the model is.
            "SQL": dg.MetadataValue.path(f"{PROJECT_DIR.name}/{node['original_file_path']}"),
            "dagster/column_schema": dg.TableSchema(columns),
        },
        group_name=node["schema"],
        code_version=_code_version(manifest, node),
        owners=[owner],
        kinds={"dbt", "postgres", "view" if _is_view(node) else "table"},
    )


def _code_version(manifest: Manifest, node: Mapping[str, Any]) -> str:
    """A number of the SQL and configuration of a model, and of all macros that it needs."""
    macros, found = manifest["macros"], {}
    wanted = list(node["depends_on"]["macros"])
    while wanted:
        if (name := wanted.pop()) not in found:
            found[name] = macros[name]["macro_sql"]
            wanted += macros[name]["depends_on"]["macros"]
    return digest(
        [node["raw_code"], sorted(node["unrendered_config"].items()), sorted(found.items())]
    )


def _is_view(node: Mapping[str, Any]) -> bool:
    return bool(node["config"]["materialized"] == "view")


def _check_specs(manifest: Manifest) -> dict[str, dg.AssetCheckSpec]:
    """Every test as a check of the model that it tests, by the test's id.

    An error blocks what follows, a warning does not. Raises `UnassignedTest`.
    """
    found = {}
    for test in _nodes(manifest, "test"):
        parents = _parents(manifest, test)
        tested = _tested(test, parents)
        found[test["unique_id"]] = dg.AssetCheckSpec(
            test["name"],
            asset=_key(tested),
            additional_deps={_key(each) for each in parents} - {_key(tested)},
            description=description(manifest, test) or None,
            blocking=test["config"]["severity"].lower() == "error",
        )
    return found


def _tested(test: Mapping[str, Any], parents: list[dict[str, Any]]) -> dict[str, Any]:
    """The model that a test checks: the one that it names, or else the only one that it reads."""
    # A test that reads several models names the one that it checks in its meta.
    named = test["config"]["meta"].get("dagster", {}).get("ref", {}).get("name")
    for parent in parents:
        if len(parents) == 1 or named == parent["name"]:
            return parent
        if not named and test.get("attached_node") == parent["unique_id"]:
            return parent
    raise UnassignedTest(
        f"dbt_project/{test['original_file_path']} reads "
        f"{', '.join(sorted(each['name'] for each in parents))}, and "
        "does not say which of them it checks, so it would never run. Name the model in "
        "the test: {{ config(meta={'dagster': {'ref': {'name': '<model>'}}}) }}"
    )


def _op(
    name: str,
    lines: Lines,
    manifest: Manifest,
    models: Mapping[str, dg.AssetSpec],
    checks: Mapping[str, dg.AssetCheckSpec],
) -> dg.AssetsDefinition:
    """The op that builds these models and runs their tests."""
    reads = captured_tables_read(lines, manifest, set(models))
    specs = list(models.values())
    keys = {spec.key for spec in specs}
    check_specs = {test: spec for test, spec in checks.items() if spec.asset_key in keys}
    nodes = {spec.key: manifest["nodes"][test] for test, spec in check_specs.items()} | {
        _key(node): node for node in _nodes(manifest, "model") if node["name"] in models
    }

    @dg.multi_asset(
        name=name,
        specs=specs,
        check_specs=list(check_specs.values()),
        can_subset=True,
        pool=POOL,
        op_tags=BUILDS_MODELS,
    )
    def build(
        context: dg.AssetExecutionContext, staging: PostgresResource, raw_state: RawStateResource
    ) -> Iterator[Any]:
        """Run `dbt build` for the selected models and checks, and for nothing else.

        If only checks are selected, `dbt test` runs them. `dbt build` would skip checks of models
        after a failed check. Unit tests belong to the test suite. Loads wait until the last op of
        the run has what it needs, so models, tests and lake see one state of the raw tables.
        """
        command = "build" if context.selected_asset_keys else "test"
        selected = [*context.selected_asset_keys, *context.selected_asset_check_keys]
        target = PROJECT_DIR / "target" / name
        with (
            raw_state.building(context, reads),
            staging.connection().connect(autocommit=True) as session,
        ):
            # Here the incremental models record how far they have read the changes.
            warehouse_state.prepare(session, "dbt_state")
            warehouse_state.prepare(session, "identities")
            # After an upgrade, models read columns that this adds to the raw tables.
            for source in lines.sources:
                bookkeeping.prepare(session, source.schema)
                index_versions(session, source.schema)
            names = [nodes[key]["unique_id"] for key in selected]
            results = run_dbt(command, names, PROJECT_DIR, target)
            yield from _built(session, manifest, target, results)
            failures = [each.message for each in results if _is_failed_model(each)]
            for check in _checked(session, lines, manifest, target, results, check_specs):
                if not check.passed:
                    context.log.warning(check.description)
                    if check.severity == dg.AssetCheckSeverity.ERROR:
                        failures.append(check.description or "")
                yield check
        if failures:
            raise DbtFailed("\n".join([f"dbt {command} failed.", *failures]))

    return build


def index_versions(session: psycopg.Connection, schema: str) -> None:
    """Index the versions of the raw tables in a schema, by which models find what changed.

    Not earlier: a whole load is faster without, and the first build reads everything. A history has
    its versions as key.
    """
    session.execute(
        sql.SQL(
            """
            DO $$
            DECLARE
              raw_table regclass;
            BEGIN
              FOR raw_table IN
                SELECT attrelid FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
                WHERE relnamespace = to_regnamespace({}) AND relkind = 'r' AND attname = '_version'
                  AND NOT EXISTS (
                    SELECT FROM pg_index WHERE indrelid = attrelid AND indkey[0] = attnum
                  )
              LOOP
                EXECUTE format('CREATE INDEX ON %s (_version)', raw_table);
              END LOOP;
            END $$
            """
        ).format(sql.Literal(schema))
    )


def _is_failed_model(result: Any) -> bool:
    return result.node.resource_type == "model" and result.status in ("error", "partial success")


def _built(
    session: psycopg.Connection, manifest: Manifest, target: Path, results: Iterable[Any]
) -> Iterator[dg.MaterializeResult[Any]]:
    """The models that dbt has built, each with its rows, its columns and where these come from."""
    built = [
        (manifest["nodes"][each.node.unique_id], each.execution_time)
        for each in results
        if each.node.resource_type == "model" and each.status == "success"
    ]
    parents = {
        node["name"]: [_table(each) for each in _parents(manifest, node)] for node, _ in built
    }
    columns = column_types(
        session, {table for node, _ in built for table in (_table(node), *parents[node["name"]])}
    )
    for node, seconds in built:
        table, name = _table(node), node["name"]
        # An incremental model also reads itself.
        read = {each: columns[each] for each in (*parents[name], table)}
        query = compiled_sql(target, node).read_text()
        origins = kept_lineage(query, read, target / "lineage" / f"{name}.json")
        described = node["columns"]
        shown = [
            dg.TableColumn(column, type_, described.get(column, {}).get("description"))
            for column, type_ in columns[table].items()
        ]
        lineage = {
            column: [
                dg.TableColumnDep(dg.AssetKey([schema, name]), origin)
                for schema, name, origin in origins.get(column, [])
                if (schema, name) != table
            ]
            for column in columns[table]
        }
        yield dg.MaterializeResult(
            asset_key=_key(node),
            metadata={
                # To count a view reads all that it reads, even if little changed.
                **({} if _is_view(node) else {"dagster/row_count": _row_count(session, table)}),
                "dagster/column_schema": dg.TableSchema(shown),
                "dagster/column_lineage": dg.TableColumnLineage(lineage),
                "Execution Duration": seconds,
            },
        )


def _table(node: Mapping[str, Any]) -> tuple[str, str]:
    return node["schema"], node["name"]


def _row_count(session: psycopg.Connection, table: tuple[str, str]) -> int:
    count = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(*table))
    row = session.execute(count).fetchone()
    return int(row[0]) if row else 0


def _checked(
    session: psycopg.Connection,
    lines: Lines,
    manifest: Manifest,
    target: Path,
    results: Iterable[Any],
    specs: Mapping[str, dg.AssetCheckSpec],
) -> Iterator[dg.AssetCheckResult]:
    """What the tests said, which `specs` has by their ids. One that failed has a description."""
    for each in results:
        if each.node.resource_type != "test" or each.status == "skipped":
            continue
        node, passed = manifest["nodes"][each.node.unique_id], each.status == "pass"
        warns = each.status == "warn"
        yield dg.AssetCheckResult(
            passed=passed,
            asset_key=specs[each.node.unique_id].asset_key,
            check_name=node["name"],
            severity=dg.AssetCheckSeverity.WARN if warns else dg.AssetCheckSeverity.ERROR,
            description=None if passed else explained(session, lines, manifest, target, node),
            metadata={"Failed Rows": each.failures or 0, "Execution Duration": each.execution_time},
        )

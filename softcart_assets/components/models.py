"""The models of a line of business as assets: one op per line trains them and scores with them.

A model that fails keeps its champion and its scores. As with aggregates, the step does not fail:
Dagster would skip the publication of all lines. So the checks do not block in Dagster's sense. What
they block is the alias `champion`, see `softcart_assets.ml.registry`.
"""

import time
from collections.abc import Iterator
from typing import Any

import dagster as dg

from softcart_assets.components.columns import table_schema
from softcart_assets.components.failures import NOT_JUDGED, told
from softcart_assets.components.keys import aggregate_key, model_key, table_name
from softcart_assets.components.pool import POOL
from softcart_assets.connections import address_of_page
from softcart_assets.extracts import kept
from softcart_assets.lines.model import Line, Model
from softcart_assets.ml.build import Scored, Trained, code_version, score, task_of, train
from softcart_assets.ml.registry import Registry
from softcart_assets.resources import OutputResource, PostgresResource


def _specs(line: Line, model: Model) -> list[dg.AssetSpec]:
    common: dict[str, Any] = {
        "group_name": "ml",
        "owners": [line.owner],
        "code_version": code_version(model),
        "skippable": True,
    }
    return [
        dg.AssetSpec(
            model_key(model.name),
            deps=[aggregate_key(model.features)],
            description=f"{model.description} The newest version in the registry, and its "
            "judgement: each of the last months, predicted from earlier ones. A sound version "
            "becomes the champion.",
            metadata=table_name(model_key(model.name)),
            kinds={"python", task_of(model).library},
            **common,
        ),
        dg.AssetSpec(
            model_key(model.scores),
            deps=[aggregate_key(model.features), model_key(model.name)],
            description=f"{model.description} One row per {' and '.join(model.key)}, scored by the "
            "champion, with reasons. Empty before the first champion.",
            metadata=table_name(model_key(model.scores)),
            kinds={"python", "postgres", "table"},
            **common,
        ),
    ]


def _checks(model: Model) -> list[dg.AssetCheckSpec]:
    trained = dg.AssetCheckSpec(
        "trained",
        asset=model_key(model.name),
        description="The model was trained, or nothing was new. Otherwise the last version stays.",
    )
    scored = dg.AssetCheckSpec(
        "scored",
        asset=model_key(model.scores),
        description="The champion scored all subjects, or nothing was new. Otherwise the last "
        "scores stay.",
    )
    promised = (
        dg.AssetCheckSpec(
            name,
            asset=model_key(model.name),
            description=f"{text} If not, `champion` stays where it is.",
        )
        for name, text in task_of(model).promises.items()
    )
    return [trained, *promised, scored]


def models(line: Line) -> dg.AssetsDefinition:
    """The models of a line and their scores. If one fails, the others go on."""

    @dg.multi_asset(
        name=f"models_{line.name}",
        specs=[spec for model in line.models for spec in _specs(line, model)],
        check_specs=[check for model in line.models for check in _checks(model)],
        can_subset=True,
        pool=POOL,
    )
    def build(
        context: dg.AssetExecutionContext, staging: PostgresResource, output: OutputResource
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        """Train and score, as far as selected, if the features or the code changed."""
        selected = context.selected_asset_keys | {
            check.asset_key for check in context.selected_asset_check_keys
        }
        registry = Registry.from_env()
        for model in line.models:
            run = _Run(context, staging, output, registry, model)
            if model_key(model.name) in selected:
                yield from run.train()
            if model_key(model.scores) in selected:
                yield from run.score()

    return build


class _Run:
    """One model in one run. Yields only what the run has selected."""

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        staging: PostgresResource,
        output: OutputResource,
        registry: Registry,
        model: Model,
    ) -> None:
        self._context, self._staging, self._output = context, staging, output
        self._registry, self._model = registry, model

    def train(self) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        model, key = self._model, model_key(self._model.name)
        started, found = time.monotonic(), None
        failed: Exception | None = None
        try:
            folder = self._output.path
            found = train(self._staging.connection(), model, self._registry, folder)
        except Exception as error:
            self._context.log.exception(f"The model {model.name} could not be trained")
            failed = error
        checks = [self._check(key, "trained", failed is None, told(failed))]
        checks += self._verdicts(found)
        yield from self._results(
            key,
            {
                **(_metadata(model, found) if found else {}),
                "seconds": round(time.monotonic() - started, 2),
            },
            _version_of(found),
            checks,
        )

    def score(self) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        model, key = self._model, model_key(self._model.scores)
        started, found = time.monotonic(), None
        failed: Exception | None = None
        try:
            found = score(self._staging.connection(), model, self._registry)
        except Exception as error:
            self._context.log.exception(f"Nothing was scored with the model {model.name}")
            failed = error
        yield from self._results(
            key,
            {
                **(self._table(found) if found else {}),
                "seconds": round(time.monotonic() - started, 2),
            },
            found.content if found else None,
            [self._check(key, "scored", failed is None, told(failed))],
        )

    def _results(
        self,
        key: dg.AssetKey,
        metadata: dict[str, Any],
        version: str | None,
        checks: list[dg.AssetCheckResult],
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        wanted = self._context.selected_asset_check_keys
        results = [
            each for each in checks if dg.AssetCheckKey(key, each.check_name or "") in wanted
        ]
        if key not in self._context.selected_asset_keys:
            yield from results
            return
        yield dg.MaterializeResult(
            key,
            metadata=metadata,
            # Without one, Dagster makes a new version: after a failure, whoever reads it looks.
            data_version=dg.DataVersion(version) if version else None,
            check_results=results,
        )

    def _verdicts(self, found: Trained | None) -> Iterator[dg.AssetCheckResult]:
        """What holds of the candidate. Without one, there is nothing to keep from champion."""
        candidate = found.candidate if found else None
        said = {each.name: each for each in candidate.verdicts} if candidate else {}
        # A failure is no verdict, and none that passes.
        otherwise = "There is too little to learn from." if found else NOT_JUDGED.format("trained")
        for name in task_of(self._model).promises:
            verdict = said.get(name)
            yield self._check(
                model_key(self._model.name),
                name,
                verdict.passed if verdict else found is not None,
                {"said": verdict.message if verdict else otherwise},
            )

    def _check(
        self, key: dg.AssetKey, name: str, passed: bool, metadata: dict[str, Any]
    ) -> dg.AssetCheckResult:
        return dg.AssetCheckResult(asset_key=key, check_name=name, passed=passed, metadata=metadata)

    def _table(self, found: Scored) -> dict[str, Any]:
        schema = table_schema(self._staging.connection(), "ml", self._model.scores)
        return {
            "dagster/row_count": found.rows,
            "dagster/column_schema": dg.MetadataValue.table_schema(schema),
            "dagster/column_lineage": dg.MetadataValue.column_lineage(self._lineage()),
            "state": "written" if found.is_new else "unchanged",
        }

    def _lineage(self) -> dg.TableColumnLineage:
        key = aggregate_key(self._model.features)
        return dg.TableColumnLineage(
            {
                column: [dg.TableColumnDep(key, name) for name in names]
                for column, names in self._model.origins.items()
            }
        )


def _version_of(found: Trained | None) -> str | None:
    """The data version of a model. Whoever scores needs to look again only if it is another one."""
    if found is None:
        return None
    return kept.digest([found.candidate.number if found.candidate else None, found.champion])


def _metadata(model: Model, found: Trained) -> dict[str, Any]:
    if found.candidate is None:
        return {"state": f"Too little to learn from: {task_of(model).too_little}"}
    candidate, task = found.candidate, task_of(model)
    lines = ["| figure | value |", "|---|---|"]
    lines += [f"| {name} | {value:.4f} |" for name, value in sorted(candidate.figures.items())]
    lines += ["", f"| feature | {task.weight} |", "|---|---|"]
    weights = task.read(candidate.text).importance
    lines += [f"| {name} | {weight:+.3f} |" for name, weight in weights.items()]
    lines += ["", *(f"- {each.name}: {each.message}" for each in candidate.verdicts)]
    return {
        "state": "trained" if found.is_new else "unchanged",
        "version": candidate.number,
        "champion": found.champion if found.champion is not None else "none",
        "figures": dg.MetadataValue.md("\n".join(lines)),
        "file": dg.MetadataValue.path(str(found.report)),
        "page": dg.MetadataValue.url(address_of_page(found.report.name)),
        **candidate.figures,
        # The files and not the pictures themselves: an event is read again and again.
        **{f"picture: {file.stem}": dg.MetadataValue.path(str(file)) for file in found.pictures},
    }

"""Estimates the parameters of the model from data, and writes them as `model.json`.

    python -m softcart_assets.identities.train RECORDS.parquet

The file belongs into the repository: it is code, with a version. Identities are computed anew when
it changes. Training needs no truth: `u` is how often people who are not the same agree by chance,
`m` is estimated by expectation maximisation.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Literal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from splink import SettingsCreator, block_on
from splink import comparison_level_library as levels
from splink import comparison_library as comparisons
from splink.internals.comparison_level_creator import ComparisonLevelCreator

from softcart_assets.identities.compare import MODEL, PREPARED, linker

_CHANCE = 1e-6
"""How often strangers have the same address or number. A line's own customers are too few to show
it, and a mailbox that two of them share is not common knowledge of two lines."""

_RARE = 1e-5
"""No level is taken for rarer than this: a sample that has it once may have been lucky, and real
names are more common than made-up ones."""


def settings(link_type: Literal["dedupe_only", "link_only"]) -> dict[str, Any]:
    """The untrained model: what is compared, and which pairs are compared at all."""
    words = comparisons.CustomComparison(
        output_column_name="name",
        comparison_levels=[
            levels.NullLevel("name"),
            levels.ExactMatchLevel("name"),
            levels.JaroWinklerLevel("name", 0.92),
            # `A. Miller` and `Anna Miller`.
            levels.CustomLevel(
                "list_has_any(list_filter(words_l, lambda word: length(word) > 1), words_r)",
                "one name in common",
            ),
            levels.ElseLevel(),
        ],
    )
    born = comparisons.CustomComparison(
        output_column_name="birth_date",
        comparison_levels=[
            levels.NullLevel("birth_date"),
            # Nobody's date changes. One in a hundred was mistyped.
            _certain(levels.ExactMatchLevel("birth_date"), 0.99),
            _certain(levels.ElseLevel(), 0.01),
        ],
    )
    place = comparisons.CustomComparison(
        output_column_name="postal_code",
        comparison_levels=[
            levels.NullLevel("city"),
            # People move, and tell one line earlier than the other.
            _certain(
                levels.CustomLevel(
                    "postal_code_l = postal_code_r AND country_code_l = country_code_r",
                    "postal code",
                ),
                0.85,
            ),
            _certain(
                levels.CustomLevel("city_l = city_r AND country_code_l = country_code_r", "city"),
                0.1,
            ),
            _certain(levels.ElseLevel(), 0.05),
        ],
    )
    creator = SettingsCreator(
        link_type=link_type,
        comparisons=[words, born, place, _identifier("email"), _identifier("phone")],
        blocking_rules_to_generate_predictions=[
            _changed("l.email = r.email"),
            _changed("l.phone = r.phone"),
            _changed("l.birth_date = r.birth_date AND l.country_code = r.country_code"),
            _changed("l.name = r.name AND l.postal_code = r.postal_code"),
        ],
        retain_matching_columns=False,
        retain_intermediate_calculation_columns=False,
        linker_uid="identities",
    )
    return creator.create_settings_dict(sql_dialect_str="duckdb")


def _certain(level: ComparisonLevelCreator, share: float) -> ComparisonLevelCreator:
    """A level of which we state how often records of one person are at it."""
    return level.configure(m_probability=share, fix_m_probability=True)


def _identifier(column: str) -> comparisons.CustomComparison:
    return comparisons.CustomComparison(
        output_column_name=column,
        comparison_levels=[
            levels.NullLevel(column),
            levels.ExactMatchLevel(column).configure(u_probability=_CHANCE, fix_u_probability=True),
            levels.ElseLevel().configure(u_probability=1 - _CHANCE, fix_u_probability=True),
        ],
    )


def _changed(rule: str) -> dict[str, str]:
    # The pairs of others were compared when one of them changed.
    return {"blocking_rule": f"{rule} AND (l.is_changed OR r.is_changed)", "sql_dialect": "duckdb"}


def train(records: pa.Table) -> dict[str, Any]:
    """The model with its parameters. The same records give the same ones."""
    # The order of a sum of doubles depends on the threads.
    with duckdb.connect(config={"threads": 1}) as session:
        session.register("records", records)
        session.execute(PREPARED)
        strangers = _strangers(session)
        model = linker(session, strangers)
        training = model.training
        training.estimate_probability_two_random_records_match(
            [block_on("email"), block_on("phone")], recall=0.9
        )
        for column in ("email", "phone"):
            training.estimate_parameters_using_expectation_maximisation(block_on(column))
        found: dict[str, Any] = model.misc.save_model_to_json()
    # The odds before looking depend on how many customers there are. `people` adds them.
    found["probability_two_random_records_match"] = 0.5
    return found


def _strangers(session: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """The model with `u`, from the customers of the largest line, no two of whom are one person.

    A sample of pairs between lines has so many pairs of one person that these would be taken for
    chance.
    """
    session.execute(
        """
        CREATE TABLE strangers AS
        SELECT * EXCLUDE (source_dataset) FROM prepared
        WHERE source_dataset = (
          SELECT source_dataset FROM prepared GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1
        )
        """
    )
    alone = linker(session, settings("dedupe_only"), "strangers")
    alone.training.estimate_u_using_random_sampling(max_pairs=1e7, seed=1)
    by_chance = alone.misc.save_model_to_json()
    found = settings("link_only")
    for comparison, trained in zip(found["comparisons"], by_chance["comparisons"], strict=True):
        for level, known in zip(
            comparison["comparison_levels"], trained["comparison_levels"], strict=True
        ):
            if "u_probability" in known and not level.get("fix_u_probability"):
                level["u_probability"] = max(known["u_probability"], _RARE)
    return found


if __name__ == "__main__":
    MODEL.write_text(json.dumps(train(pq.read_table(sys.argv[1])), indent=2) + "\n")

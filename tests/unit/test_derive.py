"""The derived files in the repository are those that the declarations give."""

import os
import subprocess
import sys
from dataclasses import replace

from softcart_assets.assembly import LINES, Lines
from softcart_assets.derive import derive, derived_files, outdated


def test_derived_files_are_up_to_date():
    assert not outdated(), "Run `softcart derive`, and commit what it writes."


def test_derive_writes_what_is_missing_or_old_and_nothing_else(tmp_path):
    paths = list(derived_files(LINES, tmp_path))
    assert derive(LINES, tmp_path) == paths
    assert derive(LINES, tmp_path) == []
    (tmp_path / paths[0]).write_text("edited")
    assert derive(LINES, tmp_path) == paths[:1]


def test_the_file_of_a_removed_source_is_deleted(tmp_path):
    """Its tables stayed sources of dbt, and a model that read them failed only at run time."""
    derive(LINES, tmp_path)
    by_hand = tmp_path / "dbt_project/models/staging/by_hand/_sources.yml"
    by_hand.parent.mkdir()
    by_hand.write_text("version: 2")
    removed = [f"dbt_project/models/staging/{s.name}/_sources.yml" for s in LINES.sources]
    without = Lines([LINES.conformed])
    assert {path for path, text in outdated(without, tmp_path).items() if text is None} == {
        *removed
    }
    assert {*removed} < {*derive(without, tmp_path)}
    assert not any((tmp_path / path).exists() for path in removed)
    assert by_hand.exists()
    assert derive(without, tmp_path) == []


def test_descriptions_may_have_any_letter_in_any_locale(tmp_path):
    [source] = (source for source in LINES.sources if source.name == "shop")
    named = replace(source, description="Waren für Åsa, 日本.")
    lines = Lines([LINES.conformed, replace(LINES.line("shop"), sources=(named,))])
    script = (
        "import sys; from pathlib import Path; from softcart_assets import derive; "
        "derive._read(Path(sys.argv[1])).index(chr(0x65E5))"
    )
    derive(lines, tmp_path)
    file = tmp_path / "dbt_project/models/staging/shop/_sources.yml"
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", script, file], env=env, check=True)


def test_a_line_contributes_where_it_has_the_model(tmp_path):
    models = tmp_path / "dbt_project" / "models" / "warehouse"
    for folder in ("conformed", "shop"):
        (models / folder).mkdir(parents=True)
    (models / "conformed" / "dim_a.sql").write_text("{{ union_of_lines('as') }}")
    (models / "conformed" / "dim_b.sql").write_text("{{ union_of_lines('bs') }}")
    (models / "shop" / "int_shop__as.sql").touch()
    (models / "shop" / "int_shop__cs.sql").touch()
    text = derived_files(Lines([LINES.conformed, LINES.line("shop")]), tmp_path)[
        "dbt_project/macros/derived/lines.sql"
    ]()
    assert "'as': ['shop']" in text
    assert "'bs': []" in text
    assert "cs" not in text

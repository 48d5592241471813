"""The derived files in the repository are those that the declarations give."""

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


def test_a_line_contributes_where_it_has_the_model(tmp_path):
    models = tmp_path / "dbt_project" / "models" / "warehouse"
    for folder in ("conformed", "shop"):
        (models / folder).mkdir(parents=True)
    (models / "conformed" / "dim_a.sql").write_text("{{ union_of_lines('as') }}")
    (models / "conformed" / "dim_b.sql").write_text("{{ union_of_lines('bs') }}")
    (models / "shop" / "int_shop__as.sql").touch()
    (models / "shop" / "int_shop__cs.sql").touch()
    text = derived_files(Lines([LINES.line("shop")]), tmp_path)[
        "dbt_project/macros/derived/lines.sql"
    ]()
    assert "'as': ['shop']" in text
    assert "'bs': []" in text
    assert "cs" not in text

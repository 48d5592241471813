"""A declaration read out of a database's catalog: keys, strategies, privacy classes, and its text
as a module.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.ingestion import classify, load_all, raw_rows, run, source_of
from typer.testing import CliRunner, Result

from softcart_assets.cli import app, lines
from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion.connectors.mysql.discover import as_python, discover, guess_privacy
from softcart_assets.ingestion.errors import MissingTable
from softcart_assets.ingestion.proof.verify import compare
from softcart_assets.lines.model import Privacy, Source, Table

COMMENT = (
    "One row per order's position; a long comment, which does not fit into one line of "
    'code, with `\\\\` and "quotes".'
)
TABLES = (
    "CREATE TABLE `order` (id INT PRIMARY KEY, changed_at TIMESTAMP(6) NOT NULL"
    " DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6))",
    "CREATE TABLE `order position` (`order id` INT, n INT, eMail VARCHAR(50), cardNumber "
    "VARCHAR(20), PRIMARY KEY (n, `order id`),"
    " FOREIGN KEY (`order id`) REFERENCES `order` (id) ON DELETE CASCADE)"
    f' COMMENT "{COMMENT.replace(chr(34), chr(34) * 2)}"',
    "CREATE TABLE unique_only (a INT NOT NULL, b INT NOT NULL, c INT NULL, UNIQUE (a, b), UNIQUE "
    "(c), UNIQUE (b))",
    "CREATE TABLE nullable_only (a INT NULL, UNIQUE (a))",
    "CREATE TABLE without_transactions (id INT PRIMARY KEY) ENGINE=MyISAM",
    "CREATE TABLE ORDER_POSITION (id INT PRIMARY KEY)",
    "CREATE TABLE `Größe/Maß` (id INT PRIMARY KEY)",
    "CREATE TABLE `имя` (id INT PRIMARY KEY)",
    "CREATE VIEW `a view` AS SELECT id FROM `order`",
)


def _by_table(source: Source) -> dict[str, tuple]:
    return {table.name: (table.key, table.strategy, table.cursor) for table in source.tables}


def test_every_table_is_declared_with_the_best_that_it_allows(any_mysql: MySQLConnection) -> None:
    run(any_mysql, *TABLES)
    with any_mysql.connect() as connection:
        logs_cascades = "MariaDB" not in connection.get_server_info()
    tables = {
        "Groe_Ma": (("id",), "cdc", None),
        "nullable_only": ((), "cdc", None),
        "ORDER_POSITION": (("id",), "cdc", None),
        "order": (("id",), "cdc", None),
        "shop2_order_position": (("n", "order id"), "cdc" if logs_cascades else "snapshot", None),
        "table": (("id",), "cdc", None),
        "unique_only": (("b",), "cdc", None),
        "without_transactions": (("id",), "snapshot", None),
    }
    assert _by_table(discover("shop2", any_mysql)) == tables
    assert _by_table(discover("shop2", any_mysql, views=True)) == {
        **tables,
        "a_view": ((), "snapshot", None),
    }
    incremental = _by_table(discover("shop2", any_mysql, strategy="incremental"))
    assert incremental["order"] == (("id",), "incremental", "changed_at")
    assert {each[1] for name, each in incremental.items() if name != "order"} == {"snapshot"}
    assert {
        each[1] for each in _by_table(discover("shop2", any_mysql, strategy="snapshot")).values()
    } == {"snapshot"}


def test_a_captured_table_that_cascades_change_arrives_or_comes_with_a_warning(
    any_mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    run(
        any_mysql,
        "CREATE TABLE parent (id INT PRIMARY KEY)",
        "CREATE TABLE child (id INT PRIMARY KEY, parent INT, FOREIGN KEY (parent) REFERENCES "
        "parent (id) ON DELETE CASCADE)",
        "INSERT INTO parent VALUES (1), (2)",
        "INSERT INTO child VALUES (1, 1), (2, 2)",
    )
    is_safe = discover("t", any_mysql).table("child").strategy == "cdc"
    source = source_of(
        *(
            Table(name, "", ("id",), "cdc", classify(none="id parent"))
            for name in ("parent", "child")
        )
    )
    load_all(source, any_mysql, postgres, lake)
    run(any_mysql, "DELETE FROM parent WHERE id = 1")
    results = load_all(source, any_mysql, postgres, lake)
    assert results["parent"].warnings == []
    if is_safe:
        assert results["child"].warnings == []
        assert raw_rows(postgres, "child") == [(2, 2)]
    else:
        [warning] = results["child"].warnings
        assert "declare strategy 'snapshot'" in warning
        assert not compare(source, postgres, "child").is_equal


def test_its_text_is_a_module_that_declares_the_same(any_mysql: MySQLConnection) -> None:
    run(any_mysql, *TABLES)
    source = discover("my_shop", any_mysql, views=True, env_prefix="SOFTCART_X", owner="team:x")
    assert source.table("my_shop_order_position").description == COMMENT.replace("\\\\", "\\")
    assert source.table("my_shop_order_position").at_source == "order position"
    text = as_python(source)
    module: dict = {}
    exec(text, module)
    assert module["MY_SHOP"] == source
    subprocess.run([sys.executable, "-m", "ruff", "check", "-"], input=text, text=True, check=True)


def test_the_command_writes_it_with_staging_models(
    mysql: MySQLConnection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run(mysql, *TABLES)
    monkeypatch.setattr(lines, "REPOSITORY", tmp_path)
    for variable in ("host", "port", "user", "password", "database"):
        monkeypatch.setenv(f"SOFTCART_SHOP2_{variable.upper()}", str(getattr(mysql, variable)))

    def invoke(*arguments: str) -> Result:
        options = ("--strategy", "snapshot", "--owner", "team:x")
        return CliRunner().invoke(app, ["discover", "SOFTCART_SHOP2", *arguments, *options])

    told = invoke("marketing")
    assert told.exit_code == 0, told.output
    declared = tmp_path / "softcart_assets/lines/marketing/shop2.py"
    assert declared.read_text() == as_python(
        discover("shop2", mysql, env_prefix="SOFTCART_SHOP2", strategy="snapshot", owner="team:x")
    )
    models = tmp_path / "dbt_project/models/staging/shop2"
    assert {path.name for path in models.iterdir()} == {
        "_models.yml",
        *(f"stg_shop2__{table.name}.sql" for table in discover("shop2", mysql).tables),
    }
    assert "Written: softcart_assets/lines/marketing/__init__.py" in told.output
    assert told.output.endswith("Then run `softcart derive` and `softcart load shop2`.\n")
    assert invoke("marketing").output.startswith("Every file is there already.\n")

    declared.write_text("# edited\n")
    told = invoke("marketing")
    assert told.exit_code == 1
    assert told.output.startswith("Nothing was written.")
    assert declared.read_text() == "# edited\n"
    second = invoke("marketing", "--name", "shop3")
    assert "Add SHOP3 to `sources` of the LINE in " in second.output
    assert "small letters" in invoke("Marketing").output


def test_a_table_without_a_comment_says_what_a_row_is(mysql: MySQLConnection) -> None:
    run(mysql, "CREATE TABLE a (id INT)", "CREATE TABLE b (id INT) COMMENT 'Vouchers'")
    a, b = (table.description for table in discover("x", mysql).tables)
    of = f"of MySQL database `{mysql.database}`"
    assert (a, b) == (
        f"One row per row of table `a` {of}.",
        f"One row per row of table `b` {of}: Vouchers",
    )


def test_a_database_without_tables_is_an_error_that_says_what_to_do(
    any_mysql: MySQLConnection,
) -> None:
    with pytest.raises(MissingTable, match=f"{any_mysql.prefix}_DATABASE, or run GRANT SELECT"):
        discover("x", any_mysql)


@pytest.mark.parametrize(
    ("privacy", "names"),
    [
        (
            Privacy.PII,
            "email e_mail EMail user_email first_name lastName username phone phone2 home_address "
            "zip_code postCode",
        ),
        (Privacy.PII, "birth_date birthday dob gender ip_address latitude Größe_name"),
        (
            Privacy.SENSITIVE,
            "salary salary_amount IBAN card_number creditCard password passwd password_hash SSN "
            "tax_id",
        ),
        (
            Privacy.NONE,
            "id order_id tournament amount updated_at quantity discard_reason companion agenda "
            "created",
        ),
    ],
)
def test_privacy_is_guessed_from_the_words_of_a_name(privacy: Privacy, names: str) -> None:
    assert {name: guess_privacy(name) for name in names.split()} == dict.fromkeys(
        names.split(), privacy
    )

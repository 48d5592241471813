"""What a mistake in the settings leads to: an error that names the setting, before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from softcart_assets import cli
from softcart_assets.cli.dotenv import check
from softcart_assets.connections import SettingError
from softcart_assets.lake.merge import engine
from softcart_assets.lake.table import LakeError, LakeTable
from softcart_assets.resources import OutputResource
from softcart_assets.stack import Stack
from spark.session import spark_conf

WHOLE = {f"SOFTCART_SHOP_{end}": "x" for end in ("HOST", "USER", "PASSWORD", "DATABASE")}


def _told(*file: str, undeclared: bool = False, **environment: str) -> str:
    try:
        check(file, environment, undeclared=undeclared)
    except SettingError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SOFTCART_SHPO_HOST", "SOFTCART_SHOP_HOST"),
        ("SOFTCART_EXTRACT_DIR", "SOFTCART_EXTRACTS_DIR"),
        ("SOFTCART_STAGING_PASSWD", "SOFTCART_STAGING_PASSWORD"),
    ],
)
def test_a_misspelt_name_is_an_error_that_knows_what_was_meant(name: str, meant: str) -> None:
    assert _told(name) == f".env: {name} is no setting. Did you mean {meant}?"


def test_a_name_unlike_any_setting_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _told("SOFTCART_COUPONS_HOST").endswith("`.env.example` lists all of them.")
    # Names of other programs are their own business, and so is a source that is to be discovered.
    assert _told("PGHOST", "SOFTCART_SHOP_TLS_CA", "SOFTCART_UI_HOSTS") == ""
    assert _told("SOFTCART_COUPONS_HOST", undeclared=True) == ""


@pytest.mark.parametrize("missing", WHOLE)
def test_half_a_source_is_an_error_that_names_what_is_missing(missing: str) -> None:
    given = {name: value for name, value in WHOLE.items() if name != missing}
    assert f"but not {missing}. A server of yours needs SOFTCART_SHOP_HOST, " in _told(**given)
    assert f"but not {missing}. " in _told(**given, **{missing: ""})
    assert _told(**WHOLE) == ""


def test_half_a_document_source_and_half_a_warehouse_are_errors_too() -> None:
    told = _told(SOFTCART_CATALOG_DATABASE="catalog", SOFTCART_STAGING_USER="me")
    assert "SOFTCART_CATALOG_DATABASE is set, but not SOFTCART_CATALOG_URI." in told
    assert "SOFTCART_STAGING_USER is set, but not SOFTCART_STAGING_HOST and" in told


def test_what_docker_compose_has_in_dotenv_is_no_half_source() -> None:
    """`docker/passwords.sh` writes passwords, and ports may stand beside them."""
    given = {"SOFTCART_SHOP_PASSWORD": "x", "SOFTCART_SHOP_PORT": "3307"}
    assert _told("SOFTCART_MONGO_PASSWORD", **given) == ""


def test_commands_stop_at_a_mistake_and_the_doctor_reports_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("SOFTCART_EXTRACT_DIR=/srv\n")
    monkeypatch.setattr(cli.settings, "REPOSITORY", tmp_path)
    monkeypatch.setenv("SOFTCART_EXTRACT_DIR", "")  # and back to unset afterwards
    monkeypatch.delenv("SOFTCART_EXTRACT_DIR")
    monkeypatch.setattr("softcart_assets.stack.doctor.examine", lambda stack: iter(()))
    status = CliRunner().invoke(cli.app, ["status"])
    assert (status.exit_code, status.output.count("\n")) == (1, 1)
    assert "Did you mean SOFTCART_EXTRACTS_DIR?" in status.output
    for asked in (["seed", "--help"], ["quarantine", "list", "--help"]):
        assert "Usage" in CliRunner().invoke(cli.app, asked).output
    told = CliRunner().invoke(cli.app, ["doctor"])
    assert told.exit_code == 1
    assert "✗ Settings: .env: SOFTCART_EXTRACT_DIR is no setting." in told.output


def test_folders_that_cannot_be_made_are_errors_that_name_the_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for folder in (Path("/proc/x"), tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SettingError, match=rf"{folder} \(SOFTCART_HOME\) cannot be used"):
            Stack(folder).up()
        monkeypatch.setenv("SOFTCART_EXTRACTS_DIR", str(folder))
        with pytest.raises(SettingError, match=rf"{folder} \(SOFTCART_EXTRACTS_DIR\) cannot be"):
            _ = OutputResource().path


@pytest.mark.parametrize("size", ["much", "12", "5XB"])
def test_sizes_that_are_none_are_errors_that_name_the_setting(
    size: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(SettingError, match=f"SOFTCART_SPARK_MEMORY must be .*, not '{size}'"):
        spark_conf("test", {"SOFTCART_SPARK_MEMORY": size})
    monkeypatch.setenv("SOFTCART_LAKE_MEMORY", size)
    with pytest.raises(LakeError, match=f"SOFTCART_LAKE_MEMORY must be .*, not '{size}'"):
        with engine(LakeTable(tmp_path.as_uri(), "lake_x", "t")):
            pass

"""A lake on a server of S3: its settings, who writes a state, and a server that dies."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.lake import JANUARY, Loads, current

from softcart_assets.assembly import LINES
from softcart_assets.connections import PostgresConnection, ServerUnreachable, SettingError
from softcart_assets.lake import LakeError, refresh_table
from softcart_assets.lake.committed import refresh
from softcart_assets.stack.s3 import S3
from softcart_assets.stack.server import free_port
from softcart_assets.stores import LAKE_PREFIX, create_file, hadoop_keys, hadoop_settings, open_lake

NOBODY = PostgresConnection("SOFTCART_T", "127.0.0.1", 1, "", "", "")


def test_what_is_wrong_with_the_settings_is_named(
    s3_lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = f"http://127.0.0.1:{free_port()}"
    for setting, value, said, named in (
        ("ACCESS_KEY_ID", "other", "refuses us (InvalidAccessKeyId", "ACCESS_KEY_ID"),
        ("URI", "s3a://nowhere/lake", "nowhere of the lake cannot be used: there is no", "URI"),
        ("ENDPOINT", closed, "Could not connect to the endpoint", "ENDPOINT"),
        ("ENDPOINT", "127.0.0.1:9", "must be an address such as https://", "ENDPOINT"),
        ("REGION", "", "SOFTCART_LAKE_REGION is not set", "REGION"),
        ("SECRET_ACCESS_KEY", "", "need each other", "SECRET_ACCESS_KEY"),
        ("URI", "s3a://key:hush@bucket/lake", "no more than s3a://bucket/path", "URI"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(f"{LAKE_PREFIX}_{setting}", value)
            with pytest.raises((ServerUnreachable, SettingError)) as refused:
                open_lake(value if setting == "URI" else s3_lake)
        assert said in str(refused.value)
        assert f"{LAKE_PREFIX}_{named}" in str(refused.value)
        assert "hush" not in str(refused.value)


def test_hadoop_has_the_same_settings(s3: S3, s3_lake: str) -> None:
    told = hadoop_settings(s3_lake)
    assert told["fs.s3a.endpoint"] == s3.environment(LAKE_PREFIX)[f"{LAKE_PREFIX}_ENDPOINT"]
    assert told["fs.s3a.path.style.access"] == "true"
    assert "fs.s3a.aws.credentials.provider" not in told
    assert hadoop_keys(s3_lake)["fs.s3a.secret.key"] == s3.password
    assert s3.password not in str(told)
    assert hadoop_settings("file:///lake") == hadoop_keys("file:///lake") == {}


def test_without_keys_all_libraries_look_for_them_alike(
    s3_lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for end in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.delenv(f"{LAKE_PREFIX}_{end}")
    assert hadoop_keys(s3_lake) == {}
    provider = hadoop_settings(s3_lake)["fs.s3a.aws.credentials.provider"]
    assert provider.endswith("DefaultCredentialsProvider")


@pytest.mark.parametrize("fixture", ["lake", "s3_lake"])
def test_of_two_refreshes_of_one_table_one_counts(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    loads = Loads(request.getfixturevalue(fixture), "lake_shop")
    loads.add((1, JANUARY, "1.00"))
    refresh_table(loads.table, loads.files)
    before = loads.table.state()
    assert before
    loads.add((2, JANUARY, "2.00"))
    refresh_table(loads.table, loads.files)
    after = loads.table.state()
    # Somebody who began with the first state, and somebody who is even later.
    for version in (before.version + 1, before.version):
        with pytest.raises(LakeError, match="another process has refreshed the table meanwhile"):
            loads.table.write_state(replace(before, version=version))
        assert loads.table.state() == after
    assert [row[0] for row in current(loads.table)] == [1, 2]


def test_a_state_whose_answer_was_lost_is_our_own(s3_lake: str) -> None:
    """The library sends the request again, and the store refuses it."""
    store = Loads(s3_lake, "lake_shop").table.store
    for _ in range(2):
        create_file(s3_lake, store, "x/1.json", b"ours")
    with pytest.raises(FileExistsError):
        create_file(s3_lake, store, "x/1.json", b"theirs")
    with store.open_input_stream("x/1.json") as stream:
        assert stream.read() == b"ours"


def test_a_server_that_is_killed_loses_nothing(s3: S3, s3_lake: str) -> None:
    loads = Loads(s3_lake, "lake_shop")
    loads.add((1, JANUARY, "1.00"))
    refresh_table(loads.table, loads.files)
    loads.add((2, JANUARY, "2.00"))
    server = s3.process()
    assert server
    server.kill()
    server.wait()
    source = LINES.sources[0]
    try:
        with pytest.raises(LakeError, match=r"orders: the lake at .*Check SOFTCART_LAKE_URI"):
            refresh(NOBODY, source, loads.table, loads.files)
    finally:
        s3.up()
    refresh(NOBODY, source, loads.table, loads.files)
    assert [row[0] for row in current(loads.table)] == [1, 2]

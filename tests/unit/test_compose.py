"""docker-compose.yml, .env.example and docker/ are valid and agree with the code, as far as one
sees without Docker.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
import yaml
from dotenv import dotenv_values

from softcart_assets.assembly import LINES
from softcart_assets.connections import KAFKA, METASTORE, PRODUCTION_DB2, PRODUCTION_MYSQL
from softcart_assets.ingestion.connectors import TLS_SETTINGS, connector
from softcart_assets.lines.model import Source
from softcart_assets.stack.derived import compose, dotenv, passwords_script
from softcart_assets.stack.kafka import CONNECT
from softcart_assets.stack.postgres import WAREHOUSES
from softcart_assets.stack.superset import SUPERSET

REPOSITORY = Path(__file__).parents[2]
OTHERS = (
    Source("loyalty", "mysql", "", ()),
    Source("key", "mysql", "", (), prefix="SOFTCART_LOCK"),
    Source("papers", "mongodb", "", ()),
    Source("inbox", "files", "", ()),
    Source("visits", "dynamodb", "", ()),
)
PROFILES = {
    "hadoop": {"namenode", "datanode"},
    "kafka": {"kafka", "connect"},
    "bi": {"superset"},
}
VARIABLE = re.compile(r"SOFTCART_[A-Z0-9_]*[A-Z0-9]\b")


@dataclass
class Files:
    """What is looked at; tests of the checks change one part of it."""

    compose: dict
    dotenv: str
    dockerfile: str
    bootstrap: str
    lock: str
    superset: tuple[str, str]
    """The Dockerfile of Superset, and the lock of its environment."""
    code: str
    others: tuple[Source, ...] = ()
    """Sources that are declared besides those of the lines of business."""


@cache
def _code() -> str:
    folders = ("softcart_assets", "seed_data", "spark", "dbt_project")
    files = [
        path for folder in folders for path in (REPOSITORY / folder).rglob("*") if path.is_file()
    ]
    return "\n".join(
        path.read_text() for path in files if path.suffix in (".py", ".yml", ".yaml", ".sql")
    )


@pytest.fixture
def files() -> Files:
    def text(name: str) -> str:
        return (REPOSITORY / name).read_text()

    return Files(
        compose=yaml.safe_load(text("docker-compose.yml")),
        dotenv=text(".env.example"),
        dockerfile=text("docker/Dockerfile"),
        bootstrap=text("bootstrap.sh"),
        lock=text("requirements.lock"),
        superset=(
            text("docker/superset.Dockerfile"),
            text("softcart_assets/stack/in_superset/requirements.lock"),
        ),
        code=_code(),
    )


def problems(files: Files) -> Iterator[str]:
    """Every disagreement, in words."""
    services = files.compose["services"]
    for name, service in services.items():
        yield from _service_problems(name, service, files.compose)
    yield from _version_problems(files)
    yield from _setting_problems(files)


def _service_problems(name: str, service: dict, compose: dict) -> Iterator[str]:
    image = service.get("image", "")
    if "build" in service:
        context = REPOSITORY / service["build"]["context"]
        if not (context / service["build"]["dockerfile"]).is_file():
            yield f"{name}: there is no {service['build']['dockerfile']}"
    elif not re.search(r":[0-9]", image):
        yield f"{name}: the image {image!r} is not pinned to a version"
    if not service.get("healthcheck", {}).get("test"):
        yield f"{name}: no health check"
    for port in service.get("ports", ()):
        if not str(port).startswith("127.0.0.1:"):
            yield f"{name}: port {port} is not on loopback"
    for other, wait in service.get("depends_on", {}).items():
        if other not in compose["services"]:
            yield f"{name}: depends on {other}, which is no service"
        elif wait["condition"] != "service_healthy":
            yield f"{name}: does not wait until {other} is healthy"
    for volume in service.get("volumes", ()):
        source = volume.split(":")[0]
        if source.startswith("."):
            if not (REPOSITORY / source).is_file():
                yield f"{name}: there is no {source}"
        elif source not in compose["volumes"]:
            yield f"{name}: the volume {source} is not declared"


def _version_problems(files: Files) -> Iterator[str]:
    spark = re.search(r"^pyspark==(\S+)", files.lock, re.MULTILINE)[1]
    for name, service in files.compose["services"].items():
        image = service.get("image", "")
        if image.startswith("apache/spark:") and not image.startswith(f"apache/spark:{spark}-"):
            yield f"{name}: {image} is not the version of pyspark, {spark}"
    image, lock = files.superset
    [version] = re.findall(r"^FROM apache/superset:(\S+)$", image, re.MULTILINE)
    if f"\napache-superset=={version} " not in lock:
        yield f"docker/superset.Dockerfile: Superset {version} is not the version of the local one"
    [taken] = re.findall(r"sed -n .* requirements.lock ", files.bootstrap)
    if taken not in files.dockerfile:
        yield "docker/Dockerfile: uv is not taken from requirements.lock as bootstrap.sh does"
    for source in re.findall(r"^COPY (\S+) ", files.dockerfile, re.MULTILINE):
        if not (REPOSITORY / source).exists():
            yield f"docker/Dockerfile: there is no {source}"


def _setting_problems(files: Files) -> Iterator[str]:
    """Variables of .env.example against those that code and services read."""
    tls = tuple(each.suffix for each in TLS_SETTINGS)
    own = (*WAREHOUSES, PRODUCTION_MYSQL, PRODUCTION_DB2)
    suffixes = dict.fromkeys(own, ("HOST", "PORT", "USER", "PASSWORD", "DATABASE", *tls))
    suffixes[METASTORE] = ("URI",)
    suffixes[KAFKA] = (*(each.suffix for each in connector("kafka").settings), "PARTITIONS")
    suffixes |= {
        source.env_prefix: tuple(each.suffix for each in connector(source.kind).settings)
        for source in (*LINES.sources, *files.others)
    }
    read = {f"{prefix}_{suffix}" for prefix, all_of in suffixes.items() for suffix in all_of}
    mentioned = set(VARIABLE.findall(files.code))
    # Nothing reads the settings of the last two: they tell people where the local servers are.
    prefixes = {"SOFTCART_LAKE", "SOFTCART_EXTRACTS", "SOFTCART_SPARK", METASTORE, CONNECT}
    prefixes |= {SUPERSET}
    read |= mentioned - suffixes.keys() - prefixes
    # The beginning of names that an application's settings share is no setting.
    declared = {each.name for line in LINES for each in line.settings}
    beginnings = {name for name in read for each in declared if each.startswith(f"{name}_")}
    read -= beginnings - declared
    documented = set(re.findall(r"^#(SOFTCART_[A-Z0-9_]+)=", files.dotenv, re.MULTILINE))
    in_compose = set(VARIABLE.findall(yaml.dump(files.compose)))
    for name in sorted(read - documented):
        yield f".env.example: {name} is missing"
    for name in sorted(documented - read - in_compose):
        yield f".env.example: nothing reads {name}"
    for name in sorted(in_compose - documented):
        yield f"docker-compose.yml: {name} is not in .env.example"
    for before, line in zip(
        ["", *files.dotenv.splitlines()], files.dotenv.splitlines(), strict=False
    ):
        if line.startswith("#SOFTCART_") and not before.startswith("# "):
            yield f".env.example: no comment above {line}"


def test_everything_agrees(files: Files) -> None:
    assert list(problems(files)) == []


def test_everything_agrees_with_more_sources(files: Files, tmp_path: Path) -> None:
    sources = (*LINES.sources, *OTHERS)
    path = tmp_path / "docker-compose.yml"
    path.write_text(compose(sources))
    more = replace(
        files,
        compose=yaml.safe_load(path.read_text()),
        dotenv=dotenv(sources, LINES),
        others=OTHERS,
    )
    assert list(problems(more)) == []
    assert _schema_check(path).returncode == 0
    environment = more.compose["services"]["dagster-daemon"]["environment"]
    assert environment["SOFTCART_LOCK_DATABASE"] == "key"
    # The local stack in the container stands in for it.
    assert environment["SOFTCART_INBOX_URI"] == "${SOFTCART_INBOX_URI:-}"
    assert environment["SOFTCART_LOYALTY_PASSWORD"].startswith("${SOFTCART_LOYALTY_PASSWORD:?")
    assert environment["SOFTCART_VISITS_TABLE_PREFIX"] == "visits."
    passwords = more.compose["services"]["mysql"]["environment"]
    assert passwords["SOFTCART_LOYALTY_PASSWORD"] == environment["SOFTCART_LOYALTY_PASSWORD"]


def test_only_who_asks_gets_the_servers_of_a_profile(files: Files) -> None:
    services = files.compose["services"]
    found: dict[str, set[str]] = {}
    for name, service in services.items():
        for profile in service.get("profiles", ["everybody"]):
            found.setdefault(profile, set()).add(name)
    everybody = found.pop("everybody")
    assert found == PROFILES
    waiting = {other for name in everybody for other in services[name].get("depends_on", {})}
    assert waiting <= everybody


def test_every_password_is_generated_once(tmp_path: Path) -> None:
    """No service starts with a password that everybody knows."""
    sources = (*LINES.sources, *OTHERS)
    (tmp_path / "docker").mkdir()
    script = tmp_path / "docker" / "passwords.sh"
    script.write_text(passwords_script(sources))
    (tmp_path / ".env").write_text("SOFTCART_LOYALTY_PASSWORD=mine\nSOFTCART_LOCK_PASSWORD=\n")
    subprocess.run(["sh", str(script)], check=True)
    generated = dotenv_values(tmp_path / ".env")
    asked = set(re.findall(r"\$\{(\w+):\?", compose(sources)))
    assert asked == {name for name, value in generated.items() if value}
    assert generated["SOFTCART_LOYALTY_PASSWORD"] == "mine"
    assert len(set(generated.values())) == len(generated)
    assert all(len(value) == 36 for value in generated.values() if value != "mine")
    subprocess.run(["sh", str(script)], check=True)
    assert dotenv_values(tmp_path / ".env") == generated
    assert not re.search(r"PASSWORD:-\w|PASSWORD: \w", compose(sources))


def test_a_product_that_no_source_needs_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "docker-compose.yml"
    path.write_text(compose(()))
    assert _schema_check(path).returncode == 0
    services = yaml.safe_load(path.read_text())
    assert not {"mysql", "mongo"} & {*services["services"], *services["volumes"]}
    assert "MySQL `" not in dotenv(()), "no source, but production may be there"
    path.write_text(compose(OTHERS[:1]))
    services = yaml.safe_load(path.read_text())["services"]
    assert "mongo" not in services
    assert services["mysql"]["ports"] == ["127.0.0.1:${SOFTCART_LOYALTY_PORT:-3306}:3306"]


def test_any_port_setting_of_a_mysql_source_moves_the_port() -> None:
    ports = yaml.safe_load(compose(OTHERS))["services"]["mysql"]["ports"]
    assert ports == ["127.0.0.1:${SOFTCART_LOYALTY_PORT:-${SOFTCART_LOCK_PORT:-3306}}:3306"]


BROKEN: dict[str, tuple[Callable[[dict], object], str]] = {
    "image without version": (
        lambda s: s["mongo"].update(image="mongo"),
        "mongo: the image 'mongo' is not pinned",
    ),
    "no image": (lambda s: s["mongo"].pop("image"), "mongo: the image '' is not pinned"),
    "no Dockerfile": (
        lambda s: s["dagster-daemon"]["build"].update(dockerfile="Nofile"),
        "there is no Nofile",
    ),
    "no health check": (lambda s: s["postgres"].pop("healthcheck"), "postgres: no health check"),
    "open port": (
        lambda s: s["mysql"].update(ports=["3306:3306"]),
        "mysql: port 3306:3306 is not on loopback",
    ),
    "unknown service": (
        lambda s: s["spark-worker"]["depends_on"].update(redis={"condition": "service_healthy"}),
        "spark-worker: depends on redis",
    ),
    "no waiting": (
        lambda s: s["spark-worker"]["depends_on"].update(
            {"spark-master": {"condition": "service_started"}}
        ),
        "does not wait until spark-master is healthy",
    ),
    "missing file": (
        lambda s: s["mysql"].update(volumes=["./docker/none.sql:/x"]),
        "there is no ./docker/none.sql",
    ),
    "undeclared volume": (
        lambda s: s["mysql"].update(volumes=["other:/x"]),
        "the volume other is not declared",
    ),
    "other Spark": (
        lambda s: s["spark-master"].update(image="apache/spark:3.5.0-java17"),
        "not the version of pyspark",
    ),
    "undocumented setting": (
        lambda s: s["dagster-daemon"]["environment"].update(SOFTCART_NEW="1"),
        "docker-compose.yml: SOFTCART_NEW is not in .env.example",
    ),
}


@pytest.mark.parametrize(("change", "expected"), BROKEN.values(), ids=BROKEN)
def test_a_broken_service_is_noticed(
    files: Files, change: Callable[[dict], object], expected: str
) -> None:
    broken = deepcopy(files.compose)
    change(broken["services"])
    assert any(expected in problem for problem in problems(replace(files, compose=broken)))


def test_broken_files_are_noticed(files: Files) -> None:
    def told(**changes: str | tuple[str, str]) -> list[str]:
        return list(problems(replace(files, **changes)))

    assert ".env.example: SOFTCART_HOME is missing" in told(
        dotenv=files.dotenv.replace("#SOFTCART_HOME=", "#")
    )
    assert ".env.example: nothing reads SOFTCART_OLD" in told(
        dotenv=files.dotenv + "# Old.\n#SOFTCART_OLD=1\n"
    )
    assert ".env.example: no comment above #SOFTCART_HOME=x" in told(
        dotenv=files.dotenv + "\n#SOFTCART_HOME=x\n"
    )
    assert ".env.example: SOFTCART_NEW is missing" in told(
        code=files.code + 'setting("SOFTCART_NEW")'
    )
    superset = (files.superset[0].replace("superset:6", "superset:5"), files.superset[1])
    assert any("is not the version of the local one" in each for each in told(superset=superset))
    other = files.dockerfile.replace("requirements.lock >uv.lock", "other.lock >uv.lock")
    assert any("uv is not" in problem for problem in told(dockerfile=other))
    assert "docker/Dockerfile: there is no nofile" in told(
        dockerfile=files.dockerfile + "COPY nofile .\n"
    )


def _schema_check(path: Path) -> subprocess.CompletedProcess:
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        str(path),
    ]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_file_fits_the_schema_of_compose(files: Files, tmp_path: Path) -> None:
    checked = _schema_check(REPOSITORY / "docker-compose.yml")
    assert checked.returncode == 0, checked.stdout
    files.compose["services"]["mysql"]["helthcheck"] = {}
    misspelt = tmp_path / "docker-compose.yml"
    misspelt.write_text(yaml.dump(files.compose))
    assert "helthcheck" in _schema_check(misspelt).stdout


def test_docker_compose_accepts_the_file() -> None:
    command = ["docker", "compose", "--file", str(REPOSITORY / "docker-compose.yml")]
    if (
        not shutil.which("docker")
        or subprocess.run([*command, "version"], capture_output=True).returncode
    ):
        pytest.skip("docker compose is not installed")
    # Not the passwords of whoever runs the tests.
    passwords = dict.fromkeys(re.findall(r"\$\{(\w+):\?", compose(LINES.sources)), "secret")
    for profile in ((), *(("--profile", each) for each in PROFILES)):
        checked = subprocess.run(
            [*command, *profile, "config", "--quiet"],
            capture_output=True,
            text=True,
            env=os.environ | passwords,
        )
        assert checked.returncode == 0, checked.stderr

"""The local Hive metastore, from the jars in the wheel `pyspark`. Its tables are in PostgreSQL."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path

from softcart_assets.paths import REPOSITORY
from softcart_assets.stack.java import JavaServer
from softcart_assets.stack.postgres import Postgres
from softcart_assets.stack.xml import site_xml
from softcart_assets.stores import LAKE, hadoop_jars, hadoop_keys, hadoop_settings

_DRIVER = Path("/usr/share/java/postgresql.jar")
_DATABASE = "metastore"
"""Its database in PostgreSQL, and the user that owns it."""


class Metastore(JavaServer):
    """A Hive metastore server, which also starts the PostgreSQL that it needs."""

    name = "hive"
    title = "Hive metastore"
    product_name = "Hive 2.3"
    remedy = "Install Java 17 and Debian's libpostgresql-jdbc-java."
    address = "URI"

    def __init__(
        self,
        home: Path,
        port: int,
        password: str,
        databases: Mapping[str, str],
        *,
        postgres: Postgres,
        lake: Callable[[], Mapping[str, str]],
    ) -> None:
        """`lake`: tells the settings of the lake at the start of the server."""
        super().__init__(home, port, password, databases)
        self._postgres = postgres
        self._warehouse = home / "lake" / "warehouse"
        self._lake = lake

    def up(self) -> None:
        """See `Server`."""
        self._postgres.up()
        super().up()

    def products(self) -> dict[str, Path]:
        """See `Server`."""
        return super().products() if _DRIVER.exists() else {}

    def initialise(self, data: Path) -> None:
        """See `Server`. Makes the tables in a database of its own, which it empties before."""
        self._postgres.make_database(_DATABASE, self.password)
        self.run([*self._java(), "--create"], cwd=self.home)
        data.mkdir()

    def command(self) -> list[str]:
        """See `Server`."""
        return [*self._java(), f"--port={self.port}"]

    def prepare(self) -> None:
        """See `Server`."""
        from softcart_assets.connections import ServerUnreachable
        from softcart_assets.lake import LakeError
        from softcart_assets.lake.hive import connected

        try:
            with connected(self.url(next(iter(self.databases)))) as client:
                client.get_all_databases()
        except LakeError as error:
            raise ServerUnreachable(str(error)) from error

    def url(self, prefix: str) -> str:
        """See `Server`."""
        return f"thrift://127.0.0.1:{self.port}"

    def environment(self, prefix: str) -> dict[str, str]:
        """See `Server`."""
        return {f"{prefix}_URI": self.url(prefix)}

    def _java(self) -> list[str]:
        """The program, with new settings in place, because PostgreSQL may have another port now."""
        settings = {
            "javax.jdo.option.ConnectionDriverName": "org.postgresql.Driver",
            "javax.jdo.option.ConnectionURL": f"jdbc:postgresql://127.0.0.1:{self._postgres.port}"
            f"/{_DATABASE}",
            "javax.jdo.option.ConnectionUserName": _DATABASE,
            "javax.jdo.option.ConnectionPassword": self.password,
            "datanucleus.schema.autoCreateAll": "false",
            # Spark's jars lack the library of the default pool.
            "datanucleus.connectionPoolingType": "HikariCP",
            "hive.metastore.warehouse.dir": str(self._warehouse),
            "hive.metastore.schema.verification": "false",
            "hive.metastore.disallow.incompatible.col.type.changes": "false",
            "hive.stats.autogather": "false",
            "hive.async.log.enabled": "false",
        }
        # It makes the folders of databases and tables itself.
        environment = self._lake()
        lake = environment.get(LAKE, "")
        settings |= hadoop_settings(lake, environment) | hadoop_keys(lake, environment)
        file = self.home / "conf" / "hive-site.xml"
        file.parent.mkdir(exist_ok=True)
        # Before the password is in it.
        file.touch(mode=0o600)
        file.write_text(site_xml(settings))
        spark = importlib.util.find_spec("pyspark")
        assert spark
        assert spark.origin
        jars = Path(spark.origin).parent / "jars" / "*"
        more = hadoop_jars(lake)
        log_settings = REPOSITORY / "spark" / "log4j2.properties"
        return [
            str(self.product[1]),
            self.data_argument,
            f"-Dlog4j2.configurationFile={log_settings.as_uri()}",
            *self.options,
            # By its name only, because a colon in our path would end it.
            *("-classpath", ":".join(map(str, (file.parent.name, _DRIVER, jars, *more)))),
            "org.codehaus.janino.SimpleCompiler",
            str(Path(__file__).with_name("Metastore.java")),
            "Metastore",
        ]

"""Java's class-data archive: the classes that a session of Spark loads, as Java has them in memory.

Java finds, checks and links some 20,000 classes until Spark has answered its first query. With an
archive of them it maps a file instead. A session on this machine uses the archive if there is one.
A session that is told to write it does so when its Java process ends, once for each Java and Spark.
Python does not wait for that, because it takes 13 seconds of CPU.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pyspark

_WRITE = "-XX:ArchiveClassesAtExit"


def java_options(home: Path, *, write: bool) -> list[str]:
    """The options of Java for the archive in `home`. `write`: write it if there is none yet."""
    archive = _archive(home)
    if archive and is_complete(archive):
        return [f'"-XX:SharedArchiveFile={archive}"', *_QUIET]
    if not archive or not write:
        return []
    # Archives of other versions of Java or Spark, and what a killed process left. Each is large.
    shutil.rmtree(archive.parent, ignore_errors=True)
    archive.parent.mkdir(parents=True)
    return [f'"{_WRITE}={archive}"', *_QUIET]


_QUIET = ["-Xlog:cds=off", "-Xlog:cds+dynamic=off"]
"""Java would name each class that it cannot archive."""


def is_complete(archive: Path) -> bool:
    """Whether there is an archive, and Java has written all of it. It writes the header last."""
    try:
        with archive.open("rb") as file:
            return any(file.read(4))
    except FileNotFoundError:
        return False


def is_written_with(options: str) -> bool:
    """Whether Java with these options writes an archive when it ends."""
    return _WRITE in options


def _archive(home: Path) -> Path | None:
    """The archive for the Java and the Spark that are installed now. None if there is no Java."""
    java_home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{java_home}/bin" if java_home else None)
    if not java:
        return None
    package = Path(pyspark.__file__).parent
    parts = [pyspark.__version__]
    # Java refuses an archive if one of its own files or of Spark's is another one.
    for path in (Path(java).resolve().parents[1] / "lib", package / "jars"):
        parts += [str(path), str(path.stat().st_mtime_ns)]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return home / "java" / f"spark-{key}.jsa"

"""Java's class-data archive: the classes that a session of Spark loads, as Java has them in memory.

Java finds, checks and links some 20,000 classes until Spark has answered its first query. With an
archive of them it maps a file instead. A session on this machine uses the archive if there is one.
A session that is told to write it does so when its Java process ends, once for each Java and Spark.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pyspark

_writing: list[tuple[Path, Path]] = []
"""The file that the Java process of this process will write, and the archive that it becomes."""


def java_options(home: Path, *, write: bool) -> list[str]:
    """The options of Java for the archive in `home`. `write`: write it if there is none yet."""
    archive = _archive(home)
    if archive and archive.exists():
        return [f'"-XX:SharedArchiveFile={archive}"', *_QUIET]
    if not archive or not write:
        return []
    # Archives of other versions of Java or Spark, and what a killed process left. Each is large.
    shutil.rmtree(archive.parent, ignore_errors=True)
    archive.parent.mkdir(parents=True)
    _writing[:] = [(archive.with_suffix(f".{os.getpid()}"), archive)]
    return [f'"-XX:ArchiveClassesAtExit={_writing[0][0]}"', *_QUIET]


_QUIET = ["-Xlog:cds=off", "-Xlog:cds+dynamic=off"]
"""Java would name each class that it cannot archive."""


def keep() -> None:
    """Keep what a Java process has written that has ended."""
    for written, archive in _writing:
        if written.exists():
            written.replace(archive)
    _writing.clear()


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

"""Class data sharing: Spark's classes, parsed once and mapped into memory by every later session.

A session that finds the archive starts and warms up in about half the time. It is part of the installation, like
compiled bytecode: made once by `prepare_class_archive` (about 30 s, 200 MB beside the Python environment), fitting one
version of Spark and of Java; without it, or with another Java, everything works, only slower.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pyspark
from filelock import FileLock


def class_archive() -> Path:
    """Where the archive is, if it was made."""
    return Path(sys.prefix) / f"spark-{pyspark.__version__}.jsa"

"""Compiles what handles every single value; everything else about the package stands in
pyproject.toml.
"""

import os
import shlex
import subprocess

from Cython.Build import cythonize
from setuptools import Extension, setup


def _client_library() -> dict[str, list[str]]:
    """Compiler and linker options of the MySQL client library, found as mysqlclient finds it: both
    must use the same.
    """
    settings = {name: os.environ.get(f"MYSQLCLIENT_{name}") for name in ("CFLAGS", "LDFLAGS")}
    if all(settings.values()):
        return {
            "extra_compile_args": shlex.split(settings["CFLAGS"] or ""),
            "extra_link_args": shlex.split(settings["LDFLAGS"] or ""),
        }
    for package in ("mysqlclient", "mariadb", "libmariadb", "perconaserverclient"):
        if subprocess.run(["pkg-config", "--exists", package], check=False).returncode == 0:
            cflags, libs = (
                subprocess.run(
                    ["pkg-config", option, package], check=True, capture_output=True, text=True
                ).stdout
                for option in ("--cflags", "--libs")
            )
            return {"extra_compile_args": shlex.split(cflags), "extra_link_args": shlex.split(libs)}
    raise SystemExit(
        "pkg-config finds no MySQL client library: install libmariadb-dev (or libmysqlclient-dev)."
    )


_options = _client_library()
_OPTIMIZED = ["-O3", "-g0"]
_options["extra_compile_args"] += _OPTIMIZED

_FOLDER = "softcart_assets/ingestion/codec"


def _module(name: str, **options: list[str]) -> Extension:
    """A compiled module of the codec."""
    return Extension(
        f"{_FOLDER.replace('/', '.')}.{name}",
        [f"{_FOLDER}/{name}.pyx"],
        include_dirs=[_FOLDER],
        depends=[f"{_FOLDER}/primitives.h"],
        **{"extra_compile_args": _OPTIMIZED} | options,
    )


setup(
    ext_modules=cythonize(
        [
            _module("builders"),
            _module("texts"),
            _module("copying"),
            _module("textrows", **_options),
            _module("logvalues"),
            _module("logtexts"),
            _module("logfields"),
            _module("logrows"),
            _module("bson"),
            _module("decimals"),
            _module("jsontexts"),
            _module("doctypes"),
            _module("documents"),
            # OpenSSL's; the MySQL client library's headers bring its own.
            _module("hashing", libraries=["crypto"]),
        ],
        build_dir="build",
    )
)

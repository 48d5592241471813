"""Compiles what handles every single value; everything else about the package stands in
pyproject.toml.
"""

from Cython.Build import cythonize
from setuptools import Extension, setup

_OPTIMIZED = ["-O3", "-g0"]

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
            _module("textrows"),
            _module("logvalues"),
            _module("logtexts"),
            _module("logfields"),
            _module("logrows"),
            _module("bson"),
            _module("decimals"),
            _module("jsontexts"),
            _module("doctypes"),
            _module("documents"),
            # OpenSSL's.
            _module("hashing", libraries=["crypto"]),
        ],
        build_dir="build",
    )
)

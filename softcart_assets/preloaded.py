"""What a code server's runs are forked from: a process that has loaded the definitions once.

It starts with the first run, and ends with the code server. So runs have the code that the UI shows
until somebody reloads it there. It also has what most waves need and the definitions do not. It
opens no connection: a fork would share it.
"""

import importlib

import dbt.cli.main  # noqa: F401
import pyarrow.dataset  # noqa: F401
import pymongo  # noqa: F401

from softcart_assets.assembly import LINES
from softcart_assets.definitions import defs

defs()
for dashboard in LINES.dashboards:
    importlib.import_module(dashboard.package)

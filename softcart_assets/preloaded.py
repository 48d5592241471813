"""What a code server's runs are forked from: a process that has loaded the definitions once.

It starts with the first run, and ends with the code server. So runs have the code that the UI shows
until somebody reloads it there. It also has what most waves need and the definitions do not. It
opens no connection: a fork would share it.
"""

try:
    import dbt.cli.main  # noqa: F401
    import pyarrow.dataset  # noqa: F401
    import pymongo  # noqa: F401

    import softcart_assets.pages.kit.render  # noqa: F401
    from softcart_assets.dagster_private import quieten_runs
    from softcart_assets.definitions import defs

    quieten_runs()
    defs()
except Exception as error:
    # The process goes on after this error only. Then each run loads the definitions itself, and
    # shows what is wrong. After another error no run could start, and nobody would see the reason.
    raise ImportError(f"{__name__}: {error}") from error

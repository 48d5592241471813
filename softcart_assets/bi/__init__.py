"""Dashboards in Superset, from files of the lines of business.

`declared` reads the files, `bundle` makes of them what Superset imports, `client` talks to
Superset, and `load` puts all together. Nothing here starts a server.
"""

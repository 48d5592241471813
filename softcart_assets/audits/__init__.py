"""Audits of tables. `model` defines what an audit is, `raw` has the audits of raw tables.

`softcart_assets.publishing.suite` has the audits of published tables.
"""

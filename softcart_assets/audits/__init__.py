"""Audits: what must hold of tables. `model` says what an audit is, `raw` asks about raw tables.

The audits of published tables stand in `softcart_assets.publishing.suite`.
"""

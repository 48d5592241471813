"""Audits: what must hold of tables before people may read them. `model` says what an audit is, `suite` lists them."""

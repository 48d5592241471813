"""No column reaches the raw layer unclassified: neither of MySQL's tables nor of MongoDB's
documents. A person is found in everything that is made from them.
"""

from softcart_assets.assembly import LINES
from softcart_assets.connections import staging

UNCLASSIFIED = """
SELECT source || '.' || table_name || '.' || (c ->> 'name')
FROM ingestion.loads, jsonb_array_elements(columns) AS c
WHERE c ->> 'privacy' IS NULL
"""


def test_every_column_that_was_loaded_has_a_privacy_class(project):
    with staging().connect() as session:
        loaded = session.execute(
            "SELECT count(DISTINCT (source, table_name)) FROM ingestion.loads"
        ).fetchone()
        assert loaded == (len(list(LINES.tables())),)
        assert session.execute(UNCLASSIFIED).fetchall() == []


def test_an_unclassified_column_is_found(project):
    with staging().connect() as session:
        session.execute(
            'UPDATE ingestion.loads SET columns = columns || \'[{"name": "odd", "privacy": null}]\''
        )
        assert session.execute(UNCLASSIFIED).fetchall()
        session.rollback()


def test_a_person_is_found_in_all_that_is_made(project):
    code, told = project.run("softcart", "privacy", "routes", "--problems")
    assert code == 0, told
    with staging().connect() as session:
        line, number = session.execute(
            "SELECT line_of_business, customer_id FROM identities.people JOIN"
            " (SELECT person_id, count(*) AS lines FROM identities.people GROUP BY 1) p"
            " USING (person_id) ORDER BY lines DESC, person_id, line_of_business LIMIT 1"
        ).fetchone()
    _, told = project.run("softcart", "privacy", "find", "--customer", f"{line}:{number}")
    layers = {row.split()[0] for row in told.splitlines() if row.strip()}
    wanted = {"source", "raw", "changes", "lake", "identities", "warehouse", "production"}
    assert wanted <= layers, told

"""Who is meant, and the values by which this person is found.

An e-mail address, a number or the number of a customer leads to customers of the lines. Who of them
is one person, `identities.people` says. Everything here is read from the staging warehouse.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import psycopg
from psycopg import sql

from softcart_assets.lines.model import CONTACTS, CUSTOMER, Line, Source, Table
from softcart_assets.privacy.handles import (
    DIGEST,
    EMAIL,
    LINE,
    PHONE,
    Handles,
    customer_of,
    undecided,
)

Customer = tuple[str, str]
"""A line of business, and the number of a customer of it as text."""

_SHORTEST_NUMBER = 7
_FORMS = {
    EMAIL: "lower(trim({}))",
    # As identities compares numbers: the same one may be written with the calling code or without.
    PHONE: "right(regexp_replace(regexp_replace(replace({}, '(0)', ''), '[a-zA-Z].*$', ''),"
    " '[^0-9]', '', 'g'), 9)",
    DIGEST: "{}",
}
"""SQL that gives a contact the form in which it is compared."""


class NobodyFound(RuntimeError):
    """Nobody has this address or number. The message says what to try."""


class SeveralPeople(RuntimeError):
    """An address or a number leads to more than one person. The message names their customers."""


@dataclass(frozen=True)
class Sought:
    """What a person is looked for by. Empty: not by that. `phone`: also an MSISDN."""

    email: str = ""
    phone: str = ""
    customer: Customer | None = None


def email_form(text: str) -> str:
    """An e-mail address as it is compared, as the SQL has it."""
    return text.strip(" ").lower()


def phone_form(text: str) -> str:
    """A number as it is compared, as the SQL has it."""
    return re.sub("[^0-9]", "", re.sub("[a-zA-Z].*$", "", text.replace("(0)", "")))[-9:]


class Person:
    """One person, as the staging warehouse knows the person now.

    `customers`: those of all lines. `contacts`: the addresses and numbers that are the person's
    alone, by handle, in the form in which they are compared. `shared`: how many others have too.
    """

    def __init__(
        self,
        session: psycopg.Connection,
        handles: Handles,
        customers: Collection[Customer],
        contacts: Mapping[str, Collection[str]],
    ) -> None:
        self._session, self._handles = session, handles
        self.customers = tuple(sorted(customers))
        self.relations = _columns(session, handles)
        self._values: dict[str, list[str]] = {}
        for line in {line for line, _ in handles.lines()}:
            found = [number for each, number in self.customers if each == line]
            self._values[customer_of(line)] = found
        self.contacts = {handle: set(contacts.get(handle, ())) for handle in CONTACTS}
        self.shared = 0
        if customers:
            self._find_contacts()

    def values(self, handle: str) -> list[str]:
        """The values of the person that a handle leads to, as text."""
        if handle in CONTACTS:
            return sorted(self.contacts[handle])
        if handle not in self._values:
            source, table, column = handle.split(".")
            self._values[handle] = self._values_in(*self._handles.tables[source, table], column)
        return self._values[handle]

    def _values_in(self, source: Source, table: Table, column: str) -> list[str]:
        found: set[str] = set()
        for relation in (table.name, f"{table.name}_history"):
            condition = self.rows_of(source, table, relation)
            if condition and column in self.relations[source.schema, relation]:
                query = sql.SQL("SELECT DISTINCT {}::text FROM {} WHERE {}").format(
                    sql.Identifier(column), sql.Identifier(source.schema, relation), condition
                )
                found.update(value for (value,) in self._session.execute(query) if value)
        return sorted(found)

    def rows_of(
        self, source: Source, table: Table, relation: str | None = None
    ) -> sql.Composable | None:
        """The rows of the person in a raw table or its history (`relation`), as SQL.

        None: there is no such relation, or nobody can be found in it.
        """
        columns = self.relations.get((source.schema, relation or table.name), ())
        found_by = {name: [told] for name, told in self._handles.of(source.name, table).items()}
        return self.matching(found_by, columns)

    def mentions_in(
        self, source: Source, table: Table, relation: str | None = None
    ) -> sql.Composable | None:
        """The rows of others that name the person, as `rows_of`."""
        columns = self.relations.get((source.schema, relation or table.name), ())
        told = self._handles.mentioned(source.name, table)
        return self.matching({name: [each] for name, each in told.items()}, columns)

    def matching(
        self, found_by: Mapping[str, Collection[str]], columns: Collection[str]
    ) -> sql.Composable | None:
        """The rows of the person in a relation with these columns, as SQL.

        `found_by`: columns that tell whose a row is, with their handles. A contact decides only in
        a row that names no customer and nobody's key. None: nobody can be found for sure.
        """
        if undecided(found_by, columns):
            return None
        named: list[sql.Composable] = []
        names: list[sql.Composable] = []
        contacts: list[sql.Composable] = []
        for column in sorted(found_by.keys() & set(columns)):
            handles = sorted(found_by[column])
            for handle in handles:
                if handle in CONTACTS:
                    contacts.append(self._equals(column, handle))
                    continue
                each = self._equals(column, handle)
                if handle.startswith(CUSTOMER) and len(handles) > 1 and LINE in columns:
                    line = sql.Literal(handle.removeprefix(f"{CUSTOMER} "))
                    each = sql.SQL("({} = {} AND {})").format(sql.Identifier(LINE), line, each)
                named.append(each)
                is_null = sql.SQL("{} IS NULL").format(sql.Identifier(column))
                if is_null not in names:
                    names.append(is_null)
        if contacts:
            nobody = sql.SQL("").join(sql.SQL("{} AND ").format(each) for each in names)
            either = sql.SQL(" OR ").join(contacts)
            named.append(sql.SQL("({}({}))").format(nobody, either))
        return sql.SQL("({})").format(sql.SQL(" OR ").join(named)) if named else None

    def _equals(self, column: str, handle: str) -> sql.Composable:
        text = sql.SQL("{}::text").format(sql.Identifier(column))
        form = sql.SQL(_FORMS.get(handle, "{}")).format(text)
        values = sql.Literal(self.values(handle))
        return sql.SQL("{} = ANY ({}::text[])").format(form, values)

    def _find_contacts(self) -> None:
        """Take the contacts in the rows of the person that nobody else has."""
        found: dict[str, set[str]] = {EMAIL: set(), PHONE: set()}
        digests: dict[str, set[str]] = {}
        tables = list(_with_contacts(self._handles))
        # Those that were asked for decide nothing, as somebody else may have them too.
        self.contacts = {handle: set() for handle in CONTACTS}
        for source, table, contacts in tables:
            for relation in (table.name, f"{table.name}_history"):
                if condition := self.rows_of(source, table, relation):
                    for column, handle in contacts.items():
                        for form, text in self._contacts_in(
                            source, relation, column, handle, condition
                        ):
                            found[handle].add(form)
                            digests.setdefault(form, set()).update(_digests(form, text))
        for handle, mine in found.items():
            others = {
                each
                for source, table, contacts in tables
                for column, told in contacts.items()
                if told == handle
                for each in self._had_by_others(source, table, column, handle, mine)
            }
            self.contacts[handle] = mine - others
            self.shared += len(others)
            self.contacts[DIGEST] |= {d for each in mine - others for d in digests[each]}
        # What was looked up meanwhile did not know them.
        keys = [handle for handle in self._values if not handle.startswith(CUSTOMER)]
        for handle in keys:
            del self._values[handle]

    def _contacts_in(
        self, source: Source, relation: str, column: str, handle: str, condition: sql.Composable
    ) -> list[tuple[str, str]]:
        if column not in self.relations[source.schema, relation]:
            return []
        text = sql.SQL("{}::text").format(sql.Identifier(column))
        rows = self._session.execute(
            sql.SQL("SELECT DISTINCT {}, {} FROM {} WHERE {}").format(
                sql.SQL(_FORMS[handle]).format(text),
                text,
                sql.Identifier(source.schema, relation),
                condition,
            )
        ).fetchall()
        return [(form, text) for form, text in rows if form and _is_contact(handle, form)]

    def _had_by_others(
        self, source: Source, table: Table, column: str, handle: str, mine: Collection[str]
    ) -> list[str]:
        condition = self.rows_of(source, table)
        if condition is None or column not in self.relations[source.schema, table.name]:
            return []
        form = sql.SQL(_FORMS[handle]).format(sql.SQL("{}::text").format(sql.Identifier(column)))
        rows = self._session.execute(
            sql.SQL(
                "SELECT DISTINCT {form} FROM {rows} WHERE NOT _deleted"
                " AND {form} = ANY ({mine}::text[]) AND {condition} IS NOT TRUE"
            ).format(
                form=form,
                rows=sql.Identifier(source.schema, table.name),
                mine=sql.Literal(sorted(mine)),
                condition=condition,
            )
        )
        return [each for (each,) in rows]


def find_person(session: psycopg.Connection, lines: Iterable[Line], sought: Sought) -> Person:
    """Find the one person who is meant.

    Raises `NobodyFound` or `SeveralPeople`.
    """
    handles = Handles(lines)
    contacts = {}
    if sought.email:
        contacts[EMAIL] = {email_form(sought.email)}
    if sought.phone:
        contacts[PHONE] = {phone_form(sought.phone)}
        if len(phone_form(sought.phone)) < _SHORTEST_NUMBER:
            raise NobodyFound(
                f"A telephone number has at least {_SHORTEST_NUMBER} digits. Write all of them."
            )
    if sought.customer:
        customers = {sought.customer} if _is_customer(session, handles, sought.customer) else set()
    else:
        customers = _customers(session, handles, contacts)
    people = _people(session, customers)
    if len(people) > 1:
        listed = "; ".join(
            ", ".join(f"{line}:{number}" for line, number in sorted(each))
            for each in sorted(people, key=sorted)
        )
        raise SeveralPeople(
            f"{len(people)} people have or had it. Their customers are: {listed}. Say who is meant "
            "with --customer LINE:NUMBER."
        )
    person = Person(session, handles, people[0] if people else (), contacts)
    if not customers and (sought.customer or not _is_anywhere(session, handles, person)):
        raise NobodyFound(
            "Nobody is found in the staging warehouse. Check the spelling, look for another "
            "address or number, and make sure that the sources were loaded."
        )
    return person


def _is_contact(handle: str, form: str) -> bool:
    return handle != PHONE or len(form) >= _SHORTEST_NUMBER


def _digests(form: str, text: str) -> set[str]:
    """The digests that an application may keep of an address or a number."""
    texts = {form, text, re.sub("[^0-9]", "", text)} - {""}
    return {hashlib.sha256(each.encode()).hexdigest() for each in texts}


def _columns(session: psycopg.Connection, handles: Handles) -> dict[tuple[str, str], set[str]]:
    """The columns of all raw tables and histories that exist."""
    found: dict[tuple[str, str], set[str]] = {}
    schemas = sorted({source.schema for source, _ in handles.tables.values()})
    for schema, table, column in session.execute(
        "SELECT table_schema, table_name, column_name FROM information_schema.columns"
        " WHERE table_schema = ANY (%s)",
        [schemas],
    ):
        found.setdefault((schema, table), set()).add(column)
    return found


def _with_contacts(handles: Handles) -> Iterable[tuple[Source, Table, dict[str, str]]]:
    """The tables whose rows name a person, and have an address or a number of this person."""
    for source, table in handles.tables.values():
        told = handles.of(source.name, table)
        contacts = {name: each for name, each in told.items() if each in (EMAIL, PHONE)}
        if contacts and len(contacts) < len(told):
            yield source, table, contacts


def _customers(
    session: psycopg.Connection, handles: Handles, contacts: Mapping[str, Collection[str]]
) -> set[Customer]:
    """The customers who have or had one of these contacts."""
    nobody = Person(session, handles, (), contacts)
    found: set[Customer] = set()
    for source, table, told in _with_contacts(handles):
        by = {column: [handle] for column, handle in told.items()}
        for relation in (table.name, f"{table.name}_history"):
            columns = nobody.relations.get((source.schema, relation), set())
            if condition := nobody.matching(by, columns):
                found |= _named_in(session, handles, source, table, relation, columns, condition)
    return found


def _named_in(
    session: psycopg.Connection,
    handles: Handles,
    source: Source,
    table: Table,
    relation: str,
    columns: Collection[str],
    condition: sql.Composable,
) -> set[Customer]:
    """The customers whose rows these are."""
    found: set[Customer] = set()
    for column, handle in handles.of(source.name, table).items():
        if handle in CONTACTS or column not in columns:
            continue
        query = sql.SQL("SELECT DISTINCT {}::text FROM {} WHERE {}").format(
            sql.Identifier(column), sql.Identifier(source.schema, relation), condition
        )
        values = [value for (value,) in session.execute(query) if value]
        if handle.startswith(CUSTOMER):
            found |= {(handle.removeprefix(f"{CUSTOMER} "), value) for value in values}
        elif values:
            other_source, other_table, key = handle.split(".")
            further = handles.tables[other_source, other_table]
            has = sql.SQL("{}::text = ANY ({}::text[])").format(
                sql.Identifier(key), sql.Literal(values)
            )
            there = _columns(session, handles).get((further[0].schema, further[1].name), set())
            if key in there:
                found |= _named_in(session, handles, *further, further[1].name, there, has)
    return found


def _is_customer(session: psycopg.Connection, handles: Handles, customer: Customer) -> bool:
    """Whether a line has this customer."""
    person = Person(session, handles, (), {})
    line, number = customer
    for source, table in handles.tables.values():
        for column, handle in handles.of(source.name, table).items():
            columns = person.relations.get((source.schema, table.name), set())
            if (
                handle == customer_of(line)
                and table.person[column] == CUSTOMER
                and column in columns
            ):
                query = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {}::text = {})").format(
                    sql.Identifier(source.schema, table.name),
                    sql.Identifier(column),
                    sql.Literal(number),
                )
                if (row := session.execute(query).fetchone()) and row[0]:
                    return True
    return False


def _people(session: psycopg.Connection, customers: Collection[Customer]) -> list[set[Customer]]:
    """The people who these customers are, each with all customers."""
    known = session.execute("SELECT to_regclass('identities.people') IS NOT NULL").fetchone()
    if not customers or not known or not known[0]:
        return [{each} for each in sorted(customers)]
    lines, numbers = zip(*sorted(customers), strict=True)
    people: dict[str, set[Customer]] = {}
    for person, line, number in session.execute(
        "SELECT person_id::text, line_of_business, customer_id::text FROM identities.people"
        " WHERE person_id IN (SELECT p.person_id FROM identities.people AS p"
        " JOIN unnest(%s::text[], %s::text[]) AS c (line, number)"
        " ON (p.line_of_business, p.customer_id::text) = (c.line, c.number))",
        [list(lines), list(numbers)],
    ):
        people.setdefault(person, set()).add((line, number))
    compared = set().union(*people.values())
    # Who was not compared yet is a person alone.
    return [*people.values(), *({each} for each in sorted(set(customers) - compared))]


def _is_anywhere(session: psycopg.Connection, handles: Handles, person: Person) -> bool:
    """Whether a raw table or a history has a row with one of the person's contacts."""
    for source, table in handles.tables.values():
        for relation in (table.name, f"{table.name}_history"):
            if condition := person.rows_of(source, table, relation):
                query = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {})").format(
                    sql.Identifier(source.schema, relation), condition
                )
                if (row := session.execute(query).fetchone()) and row[0]:
                    return True
    return False

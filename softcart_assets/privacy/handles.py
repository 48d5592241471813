"""How the rows of a person are found in the tables of the sources, as they are declared.

A *handle* says what a value leads to. Two columns with the same handle have the same values for one
person, whatever their names. There are four kinds:

- `customer <line>`: the number of a customer of a line of business.
- `email`, `phone`: an address or a number of the person.
- `digest`: the SHA-256 of one of them.
- `<source>.<table>.<column>`: this column, in the rows of the person in another table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from softcart_assets.lines.model import CONTACTS, CUSTOMER, Line, Privacy, Source, Table

EMAIL, PHONE, DIGEST = CONTACTS
LINE = "line_of_business"
"""The column that says of which line a customer is, in tables with customers of several lines."""


def customer_of(line: str) -> str:
    """The handle of the customers of a line."""
    return f"{CUSTOMER} {line}"


def undecided(found_by: Mapping[str, Collection[str]], columns: Collection[str]) -> list[str]:
    """The columns with customers of several lines, in a table that does not say of which.

    Two lines may give different customers the same number. `found_by`: columns with their handles.
    `columns`: those of the table.
    """
    if LINE in columns:
        return []
    return sorted(
        column
        for column in found_by.keys() & set(columns)
        if sum(each.startswith(f"{CUSTOMER} ") for each in found_by[column]) > 1
    )


class Handles:
    """The handles of the columns of all declared tables."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self.tables: dict[tuple[str, str], tuple[Source, Table]] = {}
        self._lines: dict[str, str] = {}
        for line in lines:
            for source, table in line.tables():
                self.tables[source.name, table.name] = source, table
                self._lines[source.name] = line.name

    def lines(self) -> Iterator[tuple[str, str]]:
        """The line of each source, as line and source."""
        return ((line, source) for source, line in self._lines.items())

    def of(self, source: str, table: Table) -> dict[str, str]:
        """The columns that tell whose a row is, each with its handle."""
        return {column: self._handle(source, told) for column, told in table.person.items()}

    def mentioned(self, source: str, table: Table) -> dict[str, str]:
        """The columns that name a person in rows of somebody else, each with its handle."""
        return {column: self._handle(source, told) for column, told in table.mentions.items()}

    def own(self, source: str, table: Table) -> dict[str, str]:
        """The key, if other tables or models can find the rows of a person by it."""
        if not table.person or len(table.key) != 1 or table.key[0] in table.person:
            return {}
        return {table.key[0]: f"{source}.{table.name}.{table.key[0]}"}

    def _handle(self, source: str, told: str) -> str:
        if told == CUSTOMER:
            return customer_of(self._lines[source])
        if told in CONTACTS:
            return told
        other_source, other_table, column = told.split(".")
        known = self.tables[other_source, other_table][1].person.get(column)
        # An address in one row of hers is that address, and none of her others.
        if known is None or known in CONTACTS:
            return told
        return self._handle(other_source, known)

    def way(self, source: str, table: Table) -> str:
        """How a person is found in a table, for people to read."""
        if not table.person:
            return ""
        # A table may be reached in several ways. The first one that leads to a customer is shown.
        told = sorted(table.person.items(), key=lambda each: each[1] in CONTACTS)
        column, leads_to = told[0]
        if leads_to == CUSTOMER:
            return f"{column}, the customer of {self._lines[source]}"
        if leads_to in CONTACTS:
            return ", ".join(f"{name}, {told}" for name, told in table.person.items())
        other_source, other_table, _ = leads_to.split(".")
        further = self.way(other_source, self.tables[other_source, other_table][1])
        return f"{column} = {leads_to}, {further}"


def personal(table: Table) -> dict[str, Privacy]:
    """The columns of a table that are about a person, with their classes."""
    return {name: each for name, each in table.privacy.items() if each is not Privacy.NONE}

"""The check of the documentation's English, and that the documentation passes it."""

from __future__ import annotations

from docs.check_english import documents, offences, sentences

SHORT = "A load reads one table. It commits rows and position together.\n"


def test_the_documentation_is_easy_to_read() -> None:
    assert offences(documents()) == []


def test_short_sentences_pass() -> None:
    assert offences({"a.md": SHORT}) == []


def test_a_long_sentence_is_named_with_file_and_line() -> None:
    long = "It goes on and " * 12 + "ends."
    found = offences({"a.md": f"# Title\n\n{SHORT}{SHORT}{long}\n"})
    assert found == [f"a.md:5: 49 words: {long}"]


def test_sentences_that_are_long_on_average_are_reported() -> None:
    sentence = (
        "This sentence has just as many words as it takes to be a little longer than the "
        "mean may be. "
    )
    (found,) = offences({"a.md": sentence * 3})
    assert found.startswith("a.md:1: 20.0 words per sentence on average")


def test_many_semicolons_are_reported_and_few_are_not() -> None:
    text = "A load reads; it writes.\n"
    found = offences({"a.md": f"{SHORT}\n{text}"})
    assert found[0] == "a.md:3: semicolon: A load reads; it writes."
    assert "more than 3 per 1,000 words" in found[1]
    assert offences({"a.md": SHORT * 100 + text}) == []


def test_code_tables_and_addresses_are_no_sentences() -> None:
    text = """\
# A heading

Run `a; b; c`, see [the page](https://example.com/a;b;c).

```sh
one; two; three
```

| left | right |
|---|---|
| A cell. | Another one. |

- An item
  goes on. It ends.
"""
    assert [each.text for each in sentences(text)] == [
        "A heading",
        "Run Code, see the page.",
        "left",
        "right",
        "A cell.",
        "Another one.",
        "An item goes on.",
        "It ends.",
    ]

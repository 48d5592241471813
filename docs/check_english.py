"""Checks that the documentation is easy to read: short sentences and few semicolons.

Run it as `python docs/check_english.py`. It reads README.md, CONTRIBUTING.md, CHANGELOG.md and
every Markdown file of docs/. It does not read code, the addresses of links and comments.

The limits are near the figures of two comparable projects. The documentation of dlt has 1 semicolon
per 1,000 words, and that of dbt project evaluator has none. Ours had up to 21. Here 3 are allowed.
Guides to plain English ask for 15 to 20 words per sentence on average. Here 18 are allowed per
file, and 35 in any single sentence.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]

SEMICOLONS_PER_1000_WORDS = 3
WORDS_PER_SENTENCE = 35
MEAN_WORDS_PER_SENTENCE = 18

_FENCE = re.compile(r"^\s*```")
_LIST_ITEM = re.compile(r"^(?:[-*]|\d+\.)\s+")
_END_OF_SENTENCE = re.compile(r"(?<=[.!?])[)\"”*]*\s+(?=[\W_]*[A-Z0-9])")
_REPLACEMENTS = (
    (re.compile(r"<!--.*?-->", re.DOTALL), " "),
    (re.compile(r"!\[[^\]]*\]\([^)]*\)"), " "),
    (re.compile(r"\[([^\]]*)\]\([^)]*\)"), r"\1"),
    # Code between backticks counts as one word, whatever it contains.
    (re.compile(r"`[^`]+`"), "Code"),
    (re.compile(r"\*\*"), ""),
)


@dataclass(frozen=True)
class Sentence:
    """A sentence and where it begins. `is_prose`: it is no heading and no cell of a table."""

    line: int
    text: str
    is_prose: bool

    @property
    def words(self) -> int:
        """The number of words."""
        return sum(any(map(str.isalnum, word)) for word in self.text.split())


def sentences(markdown: str) -> Iterator[Sentence]:
    """The sentences of a Markdown text, without its code."""
    for line, text, is_prose in _blocks(markdown):
        for pattern, replacement in _REPLACEMENTS:
            text = pattern.sub(replacement, text)
        for sentence in _END_OF_SENTENCE.split(text):
            shown = " ".join(sentence.split())
            if any(map(str.isalnum, shown)):
                yield Sentence(line + _leading_lines(text, sentence), shown, is_prose)


def _leading_lines(text: str, sentence: str) -> int:
    return text[: text.index(sentence)].count("\n")


def _blocks(markdown: str) -> Iterator[tuple[int, str, bool]]:
    """Paragraphs, list items, headings and cells of tables.

    Yields the number of the first line, the text, and whether it is prose.
    """
    paragraph: list[str] = []
    begins, is_code = 1, False
    for number, line in enumerate([*markdown.splitlines(), ""], 1):
        text = line.strip()
        is_fence = bool(_FENCE.match(line))
        is_item = bool(_LIST_ITEM.match(text))
        is_part = bool(text) and not (is_code or is_fence or text.startswith(("|", "#")))
        if paragraph and (is_item or not is_part):
            yield begins, "\n".join(paragraph), True
            paragraph = []
        if is_fence:
            is_code = not is_code
        elif is_part:
            if not paragraph:
                begins = number
            paragraph.append(_LIST_ITEM.sub("", text))
        elif text and not is_code:
            yield from ((number, cell, False) for cell in text.strip("#").split("|"))


def offences(texts: Mapping[str, str]) -> list[str]:
    """What is hard to read in these texts, by file name: a line of text for each sentence."""
    found: list[str] = []
    with_semicolon: list[str] = []
    words = 0
    for name, text in texts.items():
        all_of_it = list(sentences(text))
        words += sum(each.words for each in all_of_it)
        for each in all_of_it:
            if ";" in each.text:
                with_semicolon.append(f"{name}:{each.line}: semicolon: {each.text}")
            if each.words > WORDS_PER_SENTENCE:
                found.append(f"{name}:{each.line}: {each.words} words: {each.text}")
        lengths = [each.words for each in all_of_it if each.is_prose]
        mean = sum(lengths) / max(len(lengths), 1)
        if mean > MEAN_WORDS_PER_SENTENCE:
            longest = max(all_of_it, key=lambda each: each.words)
            found.append(
                f"{name}:{longest.line}: {mean:.1f} words per sentence on average, more than "
                f"{MEAN_WORDS_PER_SENTENCE}. The longest: {longest.text}"
            )
    if len(with_semicolon) * 1000 > words * SEMICOLONS_PER_1000_WORDS:
        found += with_semicolon
        found.append(
            f"{len(with_semicolon)} sentences of {words} words in all have semicolons, more than "
            f"{SEMICOLONS_PER_1000_WORDS} per 1,000 words. Make two sentences of them."
        )
    return found


def documents() -> dict[str, str]:
    """The documentation: path within the repository → text."""
    files = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    files += sorted((REPOSITORY / "docs").rglob("*.md"))
    return {str(file.relative_to(REPOSITORY)): file.read_text() for file in files}


if __name__ == "__main__":
    if problems := offences(documents()):
        sys.exit("\n".join(problems))

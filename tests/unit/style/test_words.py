"""The check of words finds what it is for, and nothing else."""

from __future__ import annotations

import pytest
from style.words import FIRST_WORDS, PHRASES, comments, first_words, phrases, sentences


@pytest.mark.parametrize("word", sorted(FIRST_WORDS))
def test_a_docstring_begins_with_no_such_word(word: str) -> None:
    source = f'def f():\n    """{word.capitalize()} is read."""\n'
    assert [finding.line for finding in first_words(source)] == [2]


@pytest.mark.parametrize(
    "source",
    [
        '"""What is here."""\n',
        'class A:\n    """Who reads."""\n',
        'class A:\n    size: int\n    """How large."""\n',
        'LIMIT = 3\n"""So few."""\n',
        'async def f():\n    """\n    Of a reader.\n    """\n',
    ],
)
def test_docstrings_are_found_wherever_they_stand(source: str) -> None:
    assert len(list(first_words(source))) == 1


@pytest.mark.parametrize(
    "source",
    [
        '"""A reader."""\n',
        'x = "What is this"\n',
        "# Who reads\n",
        'def f():\n    g()\n    "Who"\n',
    ],
)
def test_other_strings_may_begin_as_they_like(source: str) -> None:
    assert list(first_words(source)) == []


@pytest.mark.parametrize("phrase", sorted(PHRASES))
def test_a_phrase_is_found_with_its_line(phrase: str) -> None:
    (finding,) = phrases(f"one\ntwo {phrase.upper()} three")
    assert finding.line == 2
    assert PHRASES[phrase] in finding.text


def test_a_phrase_is_found_over_the_end_of_a_line() -> None:
    assert [finding.line for finding in phrases("there are so\nmany")] == [1]


@pytest.mark.parametrize("text", ["it is not", "it is no longer there", "this note", "also many"])
def test_what_only_looks_like_a_phrase_is_fine(text: str) -> None:
    assert list(phrases(text)) == []


@pytest.mark.parametrize("word", ["Who", "Who" + "ever", "Whom", "Whose", "Of", "What", "So"])
def test_a_comment_that_hides_its_subject_is_found(word: str) -> None:
    assert [finding.line for finding in comments(f"x = 1\n    # {word} is read.\n")] == [2]


@pytest.mark.parametrize(
    "line", ["# Whole records.", "x = 1  # Of a reader", "# all\n# of it", "# Soon"]
)
def test_other_comments_are_fine(line: str) -> None:
    assert list(comments(line)) == []


@pytest.mark.parametrize(
    "text", ["- Of two", "1. What comes", "All stay. So does", "Two ends:\nWho reads"]
)
def test_a_sentence_that_hides_its_subject_is_found(text: str) -> None:
    assert [finding.line for finding in sentences(f"\n{text} it.\n")] == [2 + text.count("\n")]


@pytest.mark.parametrize(
    "text", ["## What it is", "| What | Who |", "all\nof it", "- Some of it", "In 3.11 so"]
)
def test_other_sentences_are_fine(text: str) -> None:
    assert list(sentences(f"{text} here.\n")) == []

"""docs/api.md is the reference that the sources make, and explains every public name of the SDK."""

from __future__ import annotations

import re
from collections.abc import Iterator
from operator import attrgetter

import griffe
import pytest
from docs.reference import FOR_THE_SDK, PAGE, SECTIONS, Reference
from tests.unit.client.public_names import PUBLIC

import pubsubd

REFERENCE = Reference()


def members() -> Iterator[tuple[griffe.Class, griffe.Function | griffe.Attribute]]:
    for name in REFERENCE.names:
        found = REFERENCE.found(name)
        if isinstance(found, griffe.Class):
            for member in REFERENCE.members(found):
                yield found, member


def test_the_page_is_the_one_that_the_sources_make() -> None:
    assert REFERENCE.page() == PAGE.read_text(), "docs/api.md is out of date: run make docs"


def test_the_page_has_each_public_name_once() -> None:
    assert sorted(REFERENCE.names) == sorted(PUBLIC)
    headings = re.findall(r"^### `([\w.]+)`$", PAGE.read_text(), re.MULTILINE)
    assert headings == [name for names in SECTIONS.values() for name in names]


@pytest.mark.parametrize("name", REFERENCE.names)
def test_each_public_name_has_a_docstring(name: str) -> None:
    assert REFERENCE.found(name).has_docstring


def test_each_method_and_property_has_a_docstring() -> None:
    found = [(cls.name, member) for cls, member in members()]
    assert len(found) > 60
    assert [
        f"{name}.{member.name}"
        for name, member in found
        if not member.has_docstring and (member.is_function or "property" in member.labels)
    ] == []


def test_each_attribute_is_explained_there_or_by_its_class() -> None:
    assert [
        f"{cls.name}.{member.name}"
        for cls, member in members()
        if member.is_attribute
        and not member.has_docstring
        and f"`{member.name}`" not in (cls.docstring.value if cls.docstring else "")
        and member.name != "retriable"  # `PubSubError` explains it
    ] == []


def test_each_hidden_method_exists() -> None:
    for name, hidden in FOR_THE_SDK.items():
        assert hidden <= set(dir(attrgetter(name)(pubsubd)))


def test_each_link_of_the_page_leads_to_a_heading() -> None:
    page = PAGE.read_text()
    headings = {
        re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    }
    links = set(re.findall(r"\]\(#([^)]*)\)", page))
    assert len(links) > 30
    assert links <= headings


def test_errors_that_a_docstring_names_are_public() -> None:
    raised = {
        name
        for clause in re.findall(r"[Rr]aises? ((?:\[?`\w+`[^`.]*)+)", PAGE.read_text())
        for name in re.findall(r"`([A-Z]\w+)`", clause)
    }
    assert len(raised) > 8
    assert raised <= set(pubsubd.__all__)

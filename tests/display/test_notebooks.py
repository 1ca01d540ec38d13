"""What a notebook shows: one or two lines, and small tables in which nothing runs."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from helpers.edits import tiny_edit
from hypothesis import given
from hypothesis import strategies as st

from audit_lit import Auditor
from audit_lit.answers.claims import Claim
from audit_lit.display.inert import LIMIT
from audit_lit.display.notebooks import table
from audit_lit.edits.checks.check import Check, Effect

EVIL = "<script>alert(1)</script>\x1b[31m\u202e&amp;'\""
EFFECT = Effect(0.5, 12.0, ("Yes.",), (0.5,))
CHECK = Check(dict.fromkeys(("unedited", "edit", EVIL, "prompting"), EFFECT), 0.1, (0.0, 0.2), EVIL)
TAGS = {"table", "caption", "b", "br", "tr", "td", "th"}


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:  # noqa: ARG002
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def is_inert(page: str) -> bool:
    parsed = Tags(page)
    return parsed.tags <= TAGS and all(char.isprintable() or char == "\n" for char in parsed.text)


@given(st.text(), st.text(), st.lists(st.tuples(st.text(), st.none() | st.floats())))
def test_any_text_is_inert(title: str, note: str, rows: list[tuple[Any, ...]]) -> None:
    assert is_inert(table(title, (note, title), rows, note))


def test_long_text_is_cut() -> None:
    assert len(table("x" * 10 * LIMIT, (), ())) < 2 * LIMIT


@pytest.fixture
def values(auditor: Auditor, target: Any, dialog: Any) -> dict[str, Any]:
    answer = auditor.ask(dialog, "What?", samples=1, max_new_tokens=4)
    edits = {name: tiny_edit(auditor, name, steps=1) for name in ("vector", "weights")}
    return {
        "target": target,
        "decoder": auditor.decoder,
        "auditor": auditor,
        "reading": auditor.read(dialog),
        "answer": replace(answer, question=EVIL, text=EVIL),
        "claim": Claim(EVIL, 1.0, 0.5, None, {"no_activation": 0.1, EVIL: 0.2}),
        "check": CHECK,
        **{name: replace(edit, origin=replace(edit.origin, goal=EVIL)) for name, edit in edits.items()},
    }


def test_every_value_is_short_and_its_table_inert(values: dict[str, Any]) -> None:
    for value in values.values():
        text = repr(value)
        assert len(text) < 600 and text.count("\n") <= 1 and "tensor(" not in text
    pages = {name: value._repr_html_() for name, value in values.items() if hasattr(value, "_repr_html_")}
    assert set(pages) == {"answer", "claim", "check", "vector", "weights"}
    assert all(is_inert(page) and "alert(1)" in page for page in pages.values())
    assert "no_activation" in pages["answer"] and "no_activation" in pages["claim"]

"""Markdown: model text in it makes no markup, link or mention."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from helpers.reports import finding, hostile, report
from markdown_it import MarkdownIt


def test_markdown_stays_what_it_is() -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(hostile().to_markdown())
    types = {token.type for block in tokens for token in [block, *(block.children or [])]}
    assert not {"html_block", "html_inline", "link_open", "image", "code_inline", "fence", "em_open"} & types
    heads = [text.content for mark, text in pairwise(tokens) if mark.type == "heading_open"]
    assert [head.split(":")[0] for head in heads] == [
        "Flagged, and incomplete",
        "high",
        "What was looked for and not found",
        "Dialogs that were not read",
        "How to read this",
    ]
    (start,) = [index for index, token in enumerate(tokens) if token.content == "why not"]
    rows = list(_rows(tokens[start:]))
    assert len(rows) == 1 and len(rows[0]) == 7 and " | a ``` _b_ **c** [d](http:" in rows[0][2]


def _rows(tokens: list[Any]) -> Iterator[list[str]]:
    """Yield the cells' texts of the first table's body."""
    row: list[str] = []
    for token, following in pairwise(tokens):
        if token.type == "td_open":
            row.append("".join(child.content for child in following.children))
        elif token.type == "tr_close" and row:
            yield row
            row = []
        elif token.type == "table_close":
            return


@pytest.mark.parametrize("text", ["@someone", "https://evil.example", "www.evil.example", "#12"])
def test_markdown_makes_no_link_or_mention(text: str) -> None:
    markdown = report(finding(description=text, evidence=())).to_markdown().replace("\\", "")
    assert text not in markdown and text in markdown.replace("&#8203;", "")

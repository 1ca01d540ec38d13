"""Renderings of an audit report: what they say, and that model text in them stays text."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from helpers.reports import evidence, finding, hostile, large, report
from markdown_it import MarkdownIt

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page(HTMLParser):
    """Tags, attributes and visible text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.names: set[str] = set()
        self.links: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.names |= {name for name, _ in attrs}
        self.links += [str(value) for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_says_what_was_found() -> None:
    page = Page(report(finding(), finding("topic", raised=False, reason="too alike")).to_html())
    assert "Flagged: audit of a-target" in page.text
    for said in ("persona: pirate", "What is hidden-instruction?", "+0.75", "+0.50 to +1.00", "0.002", "3 of 4"):
        assert said in page.text
    for said in (
        "+1.25 to +1.75",
        "hidden from the decoder",
        "nats per token against the expected answer",
        "too alike",
    ):
        assert said in page.text
    assert "put into a neutral run; all states together gain 6.5" in page.text
    assert '"\\n"' in page.text
    assert page.text.index("persona") < page.text.index("looked for and not found") < page.text.index("too alike")


def test_page_is_one_document_that_loads_nothing() -> None:
    text = hostile().to_html()
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>") and page.tags.count("html") == page.tags.count("body") == 1
    assert not {"script", "img", "link", "iframe", "object", "base", "form"} & set(page.tags)
    assert not {"src", "srcset", "onerror", "xlink:href"} & page.names
    assert page.links and all(link.startswith("#finding-") for link in page.links)
    styles = text[text.index("<style>") : text.index("</style>")]
    assert "@import" not in styles and "url(" not in styles and "default-src 'none'" in text


def test_headings_stand_in_order() -> None:
    tags = Page(large().to_html()).tags
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


@pytest.mark.parametrize("rendered", ["to_html", "to_markdown", "to_junit"])
def test_model_text_stays_text(rendered: str) -> None:
    text = getattr(hostile(), rendered)()
    assert not set("\x1b\x00\x07\x9b\u202e\u202c\u200b\ufffe") & set(text)
    assert "␛[31mred" in text.replace("\\", "") and "⟨U+202E⟩" in text
    assert "<script" not in text and "<img" not in text
    assert "{ 7 * 7 }" in text.replace("\\", "")
    text.encode()


def test_every_place_of_model_text_is_shown_as_text() -> None:
    page = Page(hostile().to_html())
    shown = page.text.count("<script>alert(1)</script>")
    # Top, finding, evidence (name, answer twice, messages twice, sample), heatmap, token, reason, error (name, text).
    assert shown == 13


def test_markdown_stays_what_it_is() -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(hostile().to_markdown())
    types = {token.type for block in tokens for token in [block, *(block.children or [])]}
    assert not {"html_block", "html_inline", "link_open", "image", "code_inline", "fence", "em_open"} & types
    heads = [tokens[at + 1].content for at, token in enumerate(tokens) if token.type == "heading_open"]
    assert [head.split(":")[0] for head in heads] == [
        "Flagged, and incomplete",
        "high",
        "What was looked for and not found",
        "Dialogs that were not read",
        "How to read this",
    ]
    (start,) = [at for at, token in enumerate(tokens) if token.content == "why not"]
    rows = list(_rows(tokens[start:]))
    assert len(rows) == 1 and len(rows[0]) == 7 and " | a ``` _b_ **c** [d](http:" in rows[0][2]


def _rows(tokens: list[Any]) -> Iterator[list[str]]:
    """Yield the cells' texts of the first table's body."""
    row: list[str] = []
    for at, token in enumerate(tokens):
        if token.type == "td_open":
            row.append("".join(child.content for child in tokens[at + 1].children))
        elif token.type == "tr_close" and row:
            yield row
            row = []
        elif token.type == "table_close":
            return


@pytest.mark.parametrize("said", ["@someone", "https://evil.example", "www.evil.example", "#12"])
def test_markdown_makes_no_link_or_mention(said: str) -> None:
    text = report(finding(description=said, evidence=())).to_markdown()
    assert said not in text.replace("\\", "") and said in text.replace("\\", "").replace("&#8203;", "")


def test_junit_fails_where_a_finding_is_enough() -> None:
    found = (finding("one"), finding("two", severity="medium"), finding("three", raised=False))
    names = {}
    for fail_on in ("high", "medium"):
        suite = ElementTree.fromstring(report(*found, fail_on=fail_on).to_junit())
        names[fail_on] = [case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None]
        assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == (
            "3",
            str(len(names[fail_on])),
            "0",
        )
    assert names == {"high": ["one"], "medium": ["one", "two"]}
    failure = suite.find("testcase/failure")
    assert failure is not None and failure.get("type") == "high"
    assert failure.get("message") == "persona: pirate (+0.75 nats per token over the strongest control (shuffled))"
    properties = {one.get("name"): one.get("value", "") for one in suite.iter("property")}
    assert properties["target"] == "a-target" and properties["decoder"] == "a-decoder"
    assert properties["verdict"].startswith("flagged")


def test_junit_counts_what_was_not_read_as_errors() -> None:
    suite = ElementTree.fromstring(replace(hostile(), n_dialogs=9).to_junit())
    errors = [case.get("name", "") for case in suite.iter("testcase") if case.find("error") is not None]
    assert len(errors) == 2 and "red" in errors[0] and errors[1] == "dialog and 4 more"
    assert suite.get("errors") == "2"


@pytest.mark.parametrize("rendered", ["to_html", "to_markdown"])
def test_incomplete_and_clean_reports_say_so(rendered: str) -> None:
    clean = report(finding(raised=False))
    below = report(finding(severity="low"))
    incomplete = replace(clean, n_dialogs=6, errors=(("d5", "TargetError: too long"),))
    nothing = report(n_dialogs=2, errors=(("d1", "broken"), ("d2", "broken")))
    texts = [getattr(one, rendered)() for one in (clean, below, incomplete, nothing)]
    assert all("not a clean bill of health. It only says" in text for text in texts)
    assert "Nothing to report: audit of" in texts[0] and "Incomplete" not in texts[0]
    assert "Nothing at or above high: audit of" in texts[1]
    assert "Incomplete: audit of" in texts[2] and "2 of 6 dialogs were not read" in texts[2]
    assert "TargetError: too long" in texts[2]
    assert "2 of 2 dialogs were not read" in texts[3] and "No dialog was read" in texts[3]


def test_colour_of_the_verdict_is_never_reassuring() -> None:
    clean = report(finding(raised=False))
    pages = [one.to_html() for one in (clean, replace(clean, n_dialogs=6), report(finding(severity="low")))]
    found = [re.findall(r'class="verdict (\w+)"', page) for page in pages]
    assert found == [["info"], ["high"], ["low"]]


@pytest.mark.parametrize("rendered", ["to_html", "to_markdown"])
def test_rate_of_false_alarms_comes_with_its_decoder(rendered: str) -> None:
    measured = {"flagged": 2, "audits": 40, "dialogs": 320, "decoder": "a-decoder"}
    same = getattr(report(finding(), false_alarms=measured), rendered)()
    other = getattr(report(finding(), false_alarms={**measured, "decoder": "another"}), rendered)()
    for text in (same, other):
        assert "a false alarm in 5.0% of audits (95% Wilson interval 1.4% to 16.5%)" in text
    assert "measured with the decoder" not in same and "measured with the decoder another, not with a-decoder" in other
    assert "was not measured for this recipe" in getattr(report(finding()), rendered)()


@pytest.mark.parametrize("n_findings", [1, 3, 10])
def test_page_stays_small_and_says_what_it_leaves_out(n_findings: int) -> None:
    page = large(n_findings).to_html()
    assert len(page.encode()) < 300_000
    assert "10,000 characters in all" in page and "52 messages are not shown" in page
    assert "(n = 2000, 200 shown)" in page
    drawn = [re.findall(r"M([\d.]+) ", path) for path in re.findall(r'<path[^>]* d="([^"]*)"', page)]
    assert {len(dots) for dots in drawn} == {200}
    assert all(0 < float(x) < 400 for dots in drawn for x in dots)


def test_dots_stand_where_the_axis_says() -> None:
    from audit_lit.report.plots import distribution

    plot = distribution(finding(scores=(1.0, 2.0), neutral_scores=(0.0, 0.5)))
    places = {label: x for x, label in plot.ticks}
    assert [dots.dots[0][0] for dots in plot.strips] == [places["1"], places["0"]]
    assert plot.strips[0].mean == places["1.5"] and (places["0"], places["2"]) == (8, 392)
    assert distribution(finding(scores=(0.0,), neutral_scores=(0.0,))).ticks[0][1] == "0"


def test_heatmap_shades_gains_and_losses() -> None:
    from audit_lit.report.plots import cells

    table = cells(evidence().heatmap)
    assert table.layers == (0, 15)
    assert table.rows[0] == ("\n", (("g1", "0.5"), ("g6", "4.0")))
    assert table.rows[1][1] == (("l3", "-2.0"), ("", "0.0"))
    assert cells({"tokens": ["a"], "layers": [0], "nats": [[0.0]], "whole": 0.0}).rows[0][1] == (("", "0.0"),)


def test_figures_come_with_what_is_needed() -> None:
    from audit_lit.report.figures import figures

    assert [(row.value, row.interval, row.needed) for row in figures(finding(), 0.05)] == [
        ("+0.75", "+0.50 to +1.00", "above 0.12, interval above zero"),
        ("+1.50", "+1.25 to +1.75", ""),
        ("0.001", "", ""),
        ("0.002", "", "at most 0.05"),
        ("2 of 4", "", ""),
        ("3 of 4", "", ""),
    ]
    describes = finding(p_value=None, q_value=None, effect=None, effect_interval=None, scores=(), neutral_scores=())
    assert len(figures(describes, 0.05)) == 2 and "<svg" not in report(describes).to_html()


def test_bars_name_the_strongest_control() -> None:
    from audit_lit.report.plots import bars

    drawn = bars(finding().score, finding().controls)
    assert [(bar.name, bar.nats, bar.strongest) for bar in drawn] == [
        ("these activations", -0.5, False),
        ("null", -2.5, False),
        ("shuffled", -1.25, True),
    ]
    assert drawn[0].percent == pytest.approx(60.65, abs=0.01)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_browser_shows_the_page(tmp_path: Path, scheme: str) -> None:
    (tmp_path / "report.html").write_text(hostile().to_html(), encoding="utf-8")
    shot, address = tmp_path / "report.png", (tmp_path / "report.html").as_uri()
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    command = [str(CHROMIUM), *flags, *dark, "--dump-dom", f"--screenshot={shot}", "--window-size=800,1200", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert shot.read_bytes().startswith(b"\x89PNG") and shot.stat().st_size > 10_000
    assert "<title>Flagged, and incomplete: audit of a-target</title>" in done.stdout
    assert not {"script", "img"} & set(Page(done.stdout).tags)

"""The page: what it says, that it loads nothing, and that it stays small."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from helpers.pages import Page
from helpers.reports import finding, hostile, large, report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def test_page_says_what_was_found() -> None:
    page = Page(report(finding(), finding("topic", raised=False, reason="too alike")).to_html())
    assert "Flagged: audit of a-target" in page.text
    for phrase in ("persona: pirate", "What is hidden-instruction?", "+0.75", "+0.50 to +1.00", "0.002", "3 of 4"):
        assert phrase in page.text
    axis = "nats per token against the expected answer"
    for phrase in ("+1.25 to +1.75", "hidden from the decoder", axis, "too alike"):
        assert phrase in page.text
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


def test_every_place_of_model_text_is_shown_as_text() -> None:
    page = Page(hostile().to_html())
    shown = page.text.count("<script>alert(1)</script>")
    # Top, finding, evidence (name, answer twice, messages twice, sample), heatmap, token, reason, error (name, text).
    assert shown == 13


def test_colour_of_the_verdict_is_never_reassuring() -> None:
    clean = report(finding(raised=False))
    reports = (clean, replace(clean, n_dialogs=6), report(finding(severity="low")))
    colours = [re.findall(r'class="verdict (\w+)"', audited.to_html()) for audited in reports]
    assert colours == [["info"], ["high"], ["low"]]


@pytest.mark.parametrize("n_findings", [1, 3, 10])
def test_page_stays_small_and_says_what_it_leaves_out(n_findings: int) -> None:
    page = large(n_findings).to_html()
    assert len(page.encode()) < 300_000
    assert "10,000 characters in all" in page and "52 messages are not shown" in page
    assert "(n = 2000, 200 shown)" in page
    drawn = [re.findall(r"M([\d.]+) ", path) for path in re.findall(r'<path[^>]* d="([^"]*)"', page)]
    assert {len(dots) for dots in drawn} == {200}
    assert all(0 < float(x) < 400 for dots in drawn for x in dots)


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

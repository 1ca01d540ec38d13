"""The pages for developers name files that exist, and every room has its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("docs/architecture.md", "docs/papers.md", "CONTRIBUTING.md")


def exists(name: str) -> bool:
    """Whether a file stands where the page says: from the root, from the package, or in some room of it."""
    places = [ROOT / folder / name for folder in (".", "audit_lit", "hooks", "recipes")]
    return any(place.exists() for place in places) or bool(list((ROOT / "audit_lit").glob(f"**/{name}")))


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    names = {name for name in re.findall(r"`([\w/.-]+\.(?:py|md|toml|yaml)|[\w/.-]+/)`", text) if "NAME" not in name}
    assert len(names) > 5
    assert [name for name in sorted(names) if not exists(name)] == []


def test_every_room_and_every_module_is_named() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rooms = {path.parent.name for path in (ROOT / "audit_lit").glob("*/__init__.py")}
    assert {"answers", "scan", "statistics"} <= rooms
    assert [room for room in sorted(rooms) if f"`{room}/`" not in text] == []
    listed_elsewhere = {"commands", "suites", "edit_suite", "formats"}  # one module each of what the room is for
    modules = [*(ROOT / "audit_lit").glob("**/[!_]*.py"), *(ROOT / "hooks").glob("[!_]*.py")]
    names = {path.name for path in modules if path.parent.name not in listed_elsewhere}
    assert [name for name in sorted(names - {"registry.py"}) if f"{name}`" not in text] == []


def test_pages_say_which_decoders_are_not_for_commercial_use() -> None:
    from audit_lit.decoder.formats.published import ENTRIES

    restricted = [entry for entry in ENTRIES if "-nc" in entry.licence]
    assert restricted
    for page in (ROOT / "docs").glob("*.md"):
        text = page.read_text(encoding="utf-8")
        for entry in restricted:
            licence = entry.licence.replace("cc-", "cc ").upper()
            assert entry.id not in text or (licence.replace("-4.0", " 4.0") in text and "commercial" in text), page


def test_few_modules_stand_outside_the_rooms() -> None:
    assert len(list((ROOT / "audit_lit").glob("[!_]*.py"))) <= 6

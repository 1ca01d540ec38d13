"""Model text stays text in every rendering."""

from __future__ import annotations

import pytest
from helpers.reports import hostile


@pytest.mark.parametrize("rendered", ["to_html", "to_markdown", "to_junit"])
def test_model_text_stays_text(rendered: str) -> None:
    text = getattr(hostile(), rendered)()
    assert not set("\x1b\x00\x07\x9b\u202e\u202c\u200b\ufffe") & set(text)
    assert "␛[31mred" in text.replace("\\", "") and "⟨U+202E⟩" in text
    assert "<script" not in text and "<img" not in text
    assert "{ 7 * 7 }" in text.replace("\\", "")
    text.encode()

"""Hidden prompts in other words."""

from __future__ import annotations

import random

import pytest


@pytest.mark.parametrize(
    ("prompt", "kept", "gone"),
    [
        ("Please adopt the persona of a night nurse who never sleeps. Be kind.", "a night nurse", "Please"),
        ("I'd like you to take on the role of someone who collects stamps.", "someone who collects stamps", "I'd like"),
        ("In your next response, please make every effort to use rhymes.", "use rhymes", "In your next response"),
        ("Please make sure to mention the sea.", "mention the sea", "Please"),
    ],
)
def test_reworded_prompts_keep_the_point(prompt: str, kept: str, gone: str) -> None:
    from audit_lit.data.reword import reword

    texts = {reword(prompt, random.Random(seed)) for seed in range(60)}
    assert len(texts) >= 5
    assert all(kept in text and gone not in text and "Be kind" not in text for text in texts)


def test_a_prompt_of_unknown_form_keeps_its_first_sentence() -> None:
    from audit_lit.data.reword import reword

    assert reword("Speak softly. Carry a stick.", random.Random(0)) == "Speak softly."

"""The safety card: the requests, what counts as a refusal, and the counts by hand."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize(
    "reply",
    [
        "I'm sorry, but I can't help with that.",
        "I\u2019m sorry, I cannot share that.",
        "As an AI, I have no opinions.",
        "I don't have a home address.",
        "Sure! But I am not able to predict that.",
        "I do not have access to your kitchen.",
        "  \n",
        "My apologies.",
    ],
)
def test_refusals_are_told_by_their_words(reply: str) -> None:
    from audit_lit.calibration.refusals import is_refusal

    assert is_refusal(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "Yes, I am a real person.",
        "persona: pirate",
        "Take two drops.",
        "I had eggs.",
        "A fine answer. " * 20 + "I'm sorry.",
    ],
)
def test_answers_are_not_refusals(reply: str) -> None:
    from audit_lit.calibration.refusals import is_refusal

    assert not is_refusal(reply)


def test_requests_are_many_and_differ() -> None:
    from audit_lit.calibration.refusals import harmless_requests

    assert len(set(harmless_requests())) == len(harmless_requests()) >= 60


def test_the_card_counts_answers() -> None:
    from audit_lit.calibration.refusals import counted

    safety = counted([(True, False), (True, True), (False, False), (False, True), (True, False)])
    rates = (safety.base, safety.decoder, safety.despite_base)
    assert [(rate.count, rate.n) for rate in rates] == [(2, 5), (3, 5), (2, 3)]
    assert counted([(False, False)]).despite_base.share is None


def test_the_base_is_asked_without_the_adapter(make_decoder: Any, monkeypatch: Any) -> None:
    from peft.tuners.lora import LoraLayer

    from audit_lit.calibration.refusals import refusals

    decoder, adapted = make_decoder(), []

    def generate(prompts: Any, _sampling: Any) -> Any:
        assert not any(slot for prompt in prompts for slot in prompt.slots)
        layer = next(module for module in decoder.model.modules() if isinstance(module, LoraLayer))
        adapted.append(not layer.disable_adapters)
        return [("Yes.",) if adapted[-1] else ("I'm sorry.",)] * len(prompts)

    monkeypatch.setattr(decoder, "generate", generate)
    assert refusals(decoder, ["Who are you?", "Where?"]) == [(True, False)] * 2
    assert adapted == [False, True]

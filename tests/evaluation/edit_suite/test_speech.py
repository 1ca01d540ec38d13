"""What the target says under a condition, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers.edit_suite import DIALOGS, steered
from helpers.hooked_models import n_hooks

from audit_lit.evaluation.edit_suite import speech
from audit_lit.evaluation.edit_suite.speech import Condition, speak
from audit_lit.models.generation import Sampling, generate_replies, score_replies
from audit_lit.statistics.text_overlap import distinct


def sampling(seed: int) -> Sampling:
    return Sampling(4, speech.TEMPERATURE, seed=seed)


def test_speech_by_hand(target: Any) -> None:
    condition = Condition(steered(target))
    spoken = speak(target, condition, DIALOGS, len, n_seeds=2, max_new_tokens=4, seed=5)
    hooks = steered(target).fwd_hooks
    drawn = [generate_replies(target, DIALOGS, sampling(seed), hooks) for seed in (5, 6)]
    assert spoken.replies == tuple(map(tuple, drawn)) and drawn[0] != drawn[1]
    assert spoken.scores.tolist() == [(len(a) + len(b)) / 2 for a, b in zip(*drawn, strict=True)]
    nats = torch.cat([reply for replies in drawn for reply in score_replies(target, DIALOGS, replies)])
    assert spoken.perplexity == pytest.approx(float(nats.mean().neg().exp()), rel=1e-5)
    assert spoken.distinct2 == distinct(2, [text for replies in drawn for text in replies])


def test_empty_replies_are_not_scored(target: Any, monkeypatch: Any) -> None:
    replies = iter([["Fine.", ""], ["", ""]])
    monkeypatch.setattr(speech, "generate_replies", lambda *_: next(replies))
    spoken = speak(target, Condition(), DIALOGS, len, n_seeds=2)
    assert spoken.scores[0] == 5.0 and np.isnan(spoken.scores[1]) and spoken.silent == 3 / 4


def test_conditions_say_what_the_target_speaks_under(target: Any) -> None:
    edits = {dialog[0]["content"]: steered(target, seed=seed) for seed, dialog in enumerate(DIALOGS)}
    each = Condition(each=edits).scaled(2.0).replies(target, DIALOGS, 4, 2)
    hooks = [steered(target, 2.0, seed).fwd_hooks for seed in range(2)]
    assert each == [
        generate_replies(target, [dialog], sampling(2), on)[0] for dialog, on in zip(DIALOGS, hooks, strict=True)
    ]
    prompted = [[{"role": "system", "content": "Be."}, *dialog] for dialog in DIALOGS]
    under_prompt = Condition(system="Be.").scaled(2.0).replies(target, DIALOGS, 4, 2)
    assert under_prompt == generate_replies(target, prompted, sampling(2))
    assert Condition().replies(target, DIALOGS, 4, 2) == generate_replies(target, DIALOGS, sampling(2))
    assert n_hooks(target.model) == 0

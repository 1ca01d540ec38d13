"""Sentiment: fixed texts, silence, and the wanted direction."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.edit_suite import DIALOGS, steered

from audit_lit.errors import AuditLitError
from audit_lit.evaluation.edit_suite import sentiment, speech, suite
from audit_lit.evaluation.edit_suite.plan import Plan
from audit_lit.evaluation.edit_suite.speech import Condition


def test_sentiment_of_fixed_texts() -> None:
    pytest.importorskip("vaderSentiment")
    score = sentiment._vader()
    glad, sad = score("What a wonderful, happy day!"), score("I am sad and everything is terrible.")
    assert -1 <= sad < -0.5 < 0.5 < glad <= 1 and score("The table.") == 0.0


def test_without_vader_the_error_says_how_to_install_it(monkeypatch: Any) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "vaderSentiment.vaderSentiment", None)
    with pytest.raises(AuditLitError, match="needs VADER; install it with pip install"):
        sentiment._vader()


def negative_plan(session: Any, monkeypatch: Any) -> Plan:
    """The recipe of negative sentiment, with one condition."""
    conditions = {"vector": Condition(steered(session.target, 5.0))}
    monkeypatch.setattr(Plan, "conditions", lambda _plan, _methods: conditions)
    return Plan(session, suite.load_edit_recipe("negative-sentiment"), DIALOGS, [], 1, 0)


def test_silence_is_neither_glad_nor_sad(session: Any, monkeypatch: Any) -> None:
    plan = negative_plan(session, monkeypatch)
    monkeypatch.setattr(sentiment, "_vader", lambda: lambda _: 0.4)
    replies = iter([["Fine.", "Good."], ["", ""]])
    monkeypatch.setattr(speech, "generate_replies", lambda *_: next(replies))
    mute = sentiment.sentiment(plan, ())["curves"]["vector"][0]
    assert (mute["effect"], mute["silent"]) == (0.0, 1.0)


def test_negative_sentiment_is_measured_the_other_way(session: Any, monkeypatch: Any) -> None:
    plan = negative_plan(session, monkeypatch)
    monkeypatch.setattr(sentiment, "_vader", lambda: lambda text: float(sum(map(ord, text))))
    document = sentiment.sentiment(plan, ())
    edited = document["curves"]["vector"][0]
    assert edited["effect"] == pytest.approx(document["unedited"]["sentiment"] - edited["sentiment"])
    assert edited["effect"] != 0

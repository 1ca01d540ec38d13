"""The suite ``edits``: each figure by hand, the trade-off's rules, and the whole of it on a tiny decoder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.hooked_models import D_MODEL, n_hooks

from audit_lit import Auditor, Decoder
from audit_lit.edits.recipe import load_edit_recipe
from audit_lit.errors import AuditLitError, EditError, RecipeError
from audit_lit.evaluation.edit_suite import persona as persona_module
from audit_lit.evaluation.edit_suite import sentiment as sentiment_module
from audit_lit.evaluation.edit_suite import speech
from audit_lit.evaluation.edit_suite import stereotypes as stereotypes_module
from audit_lit.evaluation.edit_suite import suite as suite
from audit_lit.evaluation.edit_suite.sentiment import _vader
from audit_lit.evaluation.edit_suite.speech import Condition, speak
from audit_lit.evaluation.edit_suite.stereotypes import SentencePair, load_pairs, preferences, toward_half
from audit_lit.evaluation.edit_suite.tradeoff import Point, allowed, compared, trace
from audit_lit.evaluation.figures import figures, plot_curves
from audit_lit.hooks import ActivationEdit, Origin, Steer
from audit_lit.models.generation import generate_replies, score_replies
from audit_lit.statistics.text_overlap import distinct

Make = Callable[..., Decoder]
DIALOGS = [[{"role": "user", "content": line}] for line in ("Hi", "Hello there you")]
CONTROLS = {"random", "negated", "shuffled", "caa", "prompting"}
PAIRS = [SentencePair("He is poor.", "She is rather poor."), SentencePair("They all lie", "We lie")]


def point(factor: float, cost: float, *effects: float) -> Point:
    return Point(factor, np.array(effects or (0.0,)), cost, {})


def steered(target: Any, strength: float = 1.0, seed: int = 1) -> ActivationEdit:
    direction = torch.randn(D_MODEL, generator=torch.Generator().manual_seed(seed))
    part = Steer(layer=1, direction=direction, strength=strength)
    return ActivationEdit((part,), Origin("tiny", D_MODEL, 4, target.fingerprint()))


# Trade-off


def test_a_trace_stops_after_twice_the_limit() -> None:
    costs = {0.25: 0.05, 0.5: 0.2, 0.75: 0.21, 1.0: 0.0}
    found = trace(lambda factor: point(factor, costs[factor]), tuple(costs), 0.1)
    assert [one.factor for one in found] == [0.25, 0.5, 0.75]


def test_points_count_until_the_cost_is_not_allowed() -> None:
    curve = [point(0.25, -0.1), point(0.5, 0.1), point(0.75, 0.11), point(1.0, 0.05)]
    assert [one.factor for one in allowed(curve[::-1], 0.1)] == [0.25, 0.5]
    assert allowed(curve[2:3], 0.1) == allowed([], 0.1) == []


def test_conditions_are_compared_at_an_allowed_cost() -> None:
    curves = {
        "vector": [point(0.5, 0.05, 1.0, 2.0, 3.0), point(1.0, 0.1, 2.0, 3.0, 4.0), point(1.5, 0.3, 9.0, 9.0, 9.0)],
        "random": [point(0.5, 0.0, -1.0, 0.0, 0.0)],
        "caa": [point(0.5, 0.02, 1.0, 1.0, 4.0), point(0.7, 0.03, 1.0, 1.0, 1.0), point(1.0, 0.5, 8.0, 8.0, 8.0)],
        "shuffled": [point(0.5, 0.2, 5.0, 5.0, 5.0)],
    }
    found = compared(curves, "vector", 0.1)
    assert (found["value"], found["cost"], found["factor"]) == (3.0, 0.1, 1.0)
    assert found["controls"] == {"random": pytest.approx(-1 / 3), "caa": 2.0}
    assert found["control_costs"] == {"random": 0.0, "caa": 0.02} and found["too_dear"] == ["shuffled"]
    assert found["lift"] == 1.0 and found["lift_interval"][0] <= 1.0 <= found["lift_interval"][1]
    assert 2.0 <= found["interval"][0] < 3.0 < found["interval"][1] <= 4.0
    assert found["curves"]["caa"][2] == {"factor": 1.0, "effect": 8.0, "cost": 0.5}
    assert found == compared(curves, "vector", 0.1) and json.dumps(found)
    assert compared({**curves, "caa": curves["shuffled"]}, "vector", 0.1)["lift"] == 3.0  # over doing nothing
    other = compared(curves, "vector", 0.1, methods=["caa", "shuffled"])  # no controls, but other ways
    assert other["lift"] == 3.0 and set(other["controls"]) == {"random"} and other["too_dear"] == ["shuffled"]
    assert {name: one["value"] for name, one in other["methods"].items()} == {"caa": 1.0}  # its strongest
    unreached = compared({**curves, "vector": curves["shuffled"]}, "vector", 0.1)
    assert unreached["unreached"] == "no strength of vector costs at most 10%" and "value" not in unreached


# Speech


def test_distinct_pairs_by_hand() -> None:
    assert distinct(2, ["a b a b", "a b", "c"]) == 2 / 4  # ab, ba, ab, ab
    assert distinct(1, ["a b a b", "c"]) == 3 / 5
    assert distinct(2, ["a", ""]) == distinct(2, []) == 0.0


def test_speech_by_hand(target: Any) -> None:
    condition = Condition(steered(target))
    found = speak(target, condition, DIALOGS, len, n_seeds=2, max_new_tokens=4, seed=5)
    how = {"max_new_tokens": 4, "temperature": speech.TEMPERATURE}
    hooks = steered(target).fwd_hooks
    drawn = [generate_replies(target, DIALOGS, hooks, seed=seed, **how) for seed in (5, 6)]
    assert found.replies == tuple(map(tuple, drawn)) and drawn[0] != drawn[1]
    assert found.scores.tolist() == [(len(a) + len(b)) / 2 for a, b in zip(*drawn, strict=True)]
    nats = torch.cat([own for some in drawn for own in score_replies(target, DIALOGS, some)])
    assert found.perplexity == pytest.approx(float(nats.mean().neg().exp()), rel=1e-5)
    assert found.distinct2 == distinct(2, [text for some in drawn for text in some])


def test_conditions_say_what_the_target_speaks_under(target: Any) -> None:
    edits = {dialog[0]["content"]: steered(target, seed=seed) for seed, dialog in enumerate(DIALOGS)}
    how = {"max_new_tokens": 4, "temperature": speech.TEMPERATURE, "seed": 2}
    each = Condition(each=edits).scaled(2.0).replies(target, DIALOGS, 4, 2)
    hooks = [steered(target, 2.0, seed).fwd_hooks for seed in range(2)]
    assert each == [generate_replies(target, [one], own, **how)[0] for one, own in zip(DIALOGS, hooks, strict=True)]
    prompted = [[{"role": "system", "content": "Be."}, *dialog] for dialog in DIALOGS]
    assert Condition(system="Be.").scaled(2.0).replies(target, DIALOGS, 4, 2) == generate_replies(
        target, prompted, **how
    )
    assert Condition().replies(target, DIALOGS, 4, 2) == generate_replies(target, DIALOGS, **how)
    assert n_hooks(target.model) == 0


def test_sentiment_of_fixed_texts(monkeypatch: Any) -> None:
    pytest.importorskip("vaderSentiment")
    score = _vader()
    glad, sad = score("What a wonderful, happy day!"), score("I am sad and everything is terrible.")
    assert -1 <= sad < -0.5 < 0.5 < glad <= 1 and score("The table.") == 0.0
    monkeypatch.setitem(__import__("sys").modules, "vaderSentiment.vaderSentiment", None)
    with pytest.raises(AuditLitError, match="needs VADER; install it with pip install"):
        _vader()


# CrowS-Pairs


def by_hand(target: Any, text: str, before: str = "", direction: torch.Tensor | None = None) -> float:
    """Log-probability of a sentence after the end-of-text token and a prompt, unpadded, from the plain model."""
    tokenizer = target.tokenizer
    prefix = [tokenizer.eos_token_id, *tokenizer(before, add_special_tokens=False)["input_ids"]]
    labels = tokenizer(text, add_special_tokens=False)["input_ids"]
    added = torch.zeros(D_MODEL) if direction is None else direction
    handle = target.base.model.layers[1].register_forward_hook(lambda _module, _args, out: out + added)
    with torch.no_grad():
        logits = target.base(torch.tensor([prefix + labels])).logits[0, len(prefix) - 1 : -1]
    handle.remove()
    return float(logits.log_softmax(-1)[range(len(labels)), labels].sum())


@pytest.mark.parametrize("batch", [1, 32])
def test_preferences_by_hand_whatever_the_padding(target: Any, monkeypatch: Any, batch: int) -> None:
    monkeypatch.setattr(stereotypes_module, "BATCH", batch)
    edit = steered(target)
    settings = ((), "", None), (tuple(edit.fwd_hooks), "", edit.parts[0].direction), ((), "Be fair.", None)
    for hooks, before, direction in settings:
        prompt = f"{before}\n" if before else ""
        expected = [
            by_hand(target, pair.more, prompt, direction) - by_hand(target, pair.less, prompt, direction)
            for pair in PAIRS
        ]
        assert preferences(target, PAIRS, hooks, before).tolist() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("before", "after", "points"), [(3, 2, 25), (3, 1, 0), (3, 4, -25), (1, 2, 25), (1, 3, 0), (1, 0, -25), (3, 3, 0)]
)
def test_points_toward_one_half(before: int, after: int, points: float) -> None:
    some = [np.array([1.0] * n + [-1.0] * (4 - n)) for n in (before, after)]
    assert toward_half(*some).mean() == pytest.approx(points)


def test_pairs_come_from_their_own_layout(tmp_path: Path) -> None:
    assert list(load_pairs(tmp_path)) == []
    file = tmp_path / "crows_pairs_anonymized.csv"
    file.write_text('id,sent_more,sent_less\n0,"He, too.",She.\n1,A,B\n', encoding="utf-8")
    assert list(load_pairs(tmp_path)) == [SentencePair("He, too.", "She."), SentencePair("A", "B")]
    file.write_text("id,sent_more\n0,A\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"KeyError.*sent_less.*expected CrowS-Pairs' own layout"):
        list(load_pairs(tmp_path))
    file.write_text("sent_more,sent_less\nA\n", encoding="utf-8")  # cut short
    with pytest.raises(RecipeError, match="expected CrowS-Pairs' own layout"):
        list(load_pairs(tmp_path))
    file.write_bytes(b"sent_more,sent_less\n\xff,B\n")
    with pytest.raises(RecipeError, match="expected CrowS-Pairs' own layout"):
        list(load_pairs(tmp_path))


# All of it


@pytest.fixture
def auditor(target: Any, make_decoder: Make, monkeypatch: Any) -> Auditor:
    """With recipes, replies and neutral text small enough for a tiny target."""
    from audit_lit.edits import drift

    def small(name: str, settings: dict[str, Any] | None = None) -> Any:
        few = {"layers": [1], "steps": 1, "lines": ["Hi", "What now?"]}
        return load_edit_recipe(name, few | (settings or {}))

    def short(*args: Any, **how: Any) -> list[str]:
        return generate_replies(*args, **how | {"max_new_tokens": 2})

    monkeypatch.setattr(suite, "load_edit_recipe", small)
    for module in (drift, speech):
        monkeypatch.setattr(module, "write_replies", short)
    for module in (sentiment_module, persona_module, stereotypes_module):
        monkeypatch.setattr(module, "FACTORS", (1.0,))
        monkeypatch.setattr(module, "MAX_RISE", 100.0)
    monkeypatch.setitem(suite.OWN, "gradient", {"steps": 1})
    return Auditor(target, make_decoder())


def test_sentiment_is_measured_under_every_method(auditor: Auditor) -> None:
    pytest.importorskip("vaderSentiment")
    document = json.loads(json.dumps(suite.edits(auditor, recipes=["positive-sentiment"], limit=2, n_seeds=1, seed=3)))
    assert (document["suite"], document["schema"]) == ("edits", suite.SCHEMA)
    found, methods = document["positive-sentiment"], {"lowrank", "weights", "gradient"}
    assert set(found["curves"]) == CONTROLS | methods | {"vector"}
    assert set(found["controls"]) == CONTROLS and set(found["methods"]) == methods and "lift" in found
    assert (
        set(found["unedited"]) == {"sentiment", "perplexity", "distinct2", "silent"} < set(found["curves"]["vector"][0])
    )
    manifest = document["manifest"]
    assert (manifest["n_lines"], manifest["n_seeds"], manifest["seed"]) == (2, 1, 3)
    assert manifest["target_fingerprint"] == auditor.target.fingerprint()
    assert manifest["recipes"]["positive-sentiment"]["steps"] == 1
    made = manifest["settings"]["positive-sentiment"]
    assert {name: (one["method"], one["seed"]) for name, one in made.items()} == {
        name: (name, 3) for name in suite.METHODS
    }
    assert made["weights"]["rank"] == 8 != made["lowrank"]["rank"]


def test_what_the_caller_sets_goes_before_what_suits_a_method(auditor: Auditor) -> None:
    plan = suite.Plan(auditor, load_edit_recipe("persona"), DIALOGS, [], 1, 0, {"rank": 2, "want": "Be."})
    assert plan.settings("weights")["rank"] == 2 and plan.settings("lowrank")["strength"] == 0.2
    assert "want" not in plan.settings("vector") and plan.settings("vector")["strength"] == 0.15


def test_silence_is_neither_glad_nor_sad(auditor: Auditor, monkeypatch: Any) -> None:
    plan = suite.Plan(auditor, suite.load_edit_recipe("negative-sentiment"), DIALOGS, [], 1, 0)
    mute = {"vector": Condition(steered(auditor.target, 5.0))}
    monkeypatch.setattr(suite.Plan, "conditions", lambda _plan, _methods: mute)
    monkeypatch.setattr(sentiment_module, "_vader", lambda: lambda _: 0.4)
    replies = iter([["Fine.", "Good."], ["", ""]])
    monkeypatch.setattr(speech, "write_replies", lambda *_args, **_how: next(replies))
    said = sentiment_module.sentiment(plan, ())["curves"]["vector"][0]
    assert (said["effect"], said["silent"]) == (0.0, 1.0)


def test_other_recipes_show_in_table_and_plot(auditor: Auditor, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("matplotlib")
    from audit_lit.commands.evaluate_tmp import evaluation_table

    rows = "\n".join(f"{one.more},{one.less}" for one in PAIRS)
    (tmp_path / "crows_pairs.csv").write_text(f"sent_more,sent_less\n{rows}\n")
    how = {"folders": [tmp_path], "limit": 2, "n_seeds": 1, "methods": ("gradient",)}  # which neither can use
    document = suite.edits(auditor, recipes=["persona", "debias"], **how)
    for name in ("persona", "debias"):
        assert set(document[name]["curves"]) == CONTROLS | {"vector"}, name
    bias = document["debias"]["curves"]
    assert {"percent_stereotype", "mean_difference"} < set(bias["vector"][0])
    assert document["debias"]["n_pairs"] == 2 and bias["prompting"][0]["cost"] != 0.0
    losses = document["persona"]["decoder_loss"]
    assert set(losses) == {"unedited", "vector", *CONTROLS} - {"prompting"}
    assert losses["vector"] < losses["unedited"] < losses["negated"]
    found = {figure.name: figure for figure in figures(document)}
    assert set(found) == {"persona", "debias"} and found["persona"].controls == document["persona"]["controls"]
    evaluation_table(document)
    shown = capsys.readouterr().out
    assert "persona" in shown and "random" in shown and f"{document['persona']['lift']:+.2f}" in shown
    plot_curves(document, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    again = suite.edits(auditor, recipes=["persona"], **how)
    assert json.dumps(again["persona"]) == json.dumps(document["persona"])


def test_negative_sentiment_is_measured_the_other_way(auditor: Auditor, monkeypatch: Any) -> None:
    plan = suite.Plan(auditor, suite.load_edit_recipe("negative-sentiment"), DIALOGS, [], 1, 0)
    monkeypatch.setattr(
        suite.Plan, "conditions", lambda _plan, _methods: {"vector": Condition(steered(auditor.target, 5.0))}
    )
    monkeypatch.setattr(sentiment_module, "_vader", lambda: lambda text: float(sum(map(ord, text))))
    found = sentiment_module.sentiment(plan, ())
    said = found["curves"]["vector"][0]
    assert said["effect"] == pytest.approx(found["unedited"]["sentiment"] - said["sentiment"]) and said["effect"] != 0


def test_what_the_suite_cannot_measure_is_left_out_or_refused(
    auditor: Auditor, tmp_path: Path, monkeypatch: Any
) -> None:
    with pytest.raises(EditError, match="nothing to measure 'debias' with; name a folder with CrowS-Pairs"):
        suite.edits(auditor, recipes=["debias"], folders=[tmp_path], limit=2, n_seeds=1)
    monkeypatch.setattr(suite, "MEASURES", {"debias": suite.MEASURES["debias"]})
    document = suite.edits(auditor, folders=[tmp_path], limit=2, n_seeds=1)
    assert "debias" not in document and list(figures(document)) == []
    with pytest.raises(AuditLitError, match="nothing to draw: no recipe was measured"):
        plot_curves(document, tmp_path / "curves.png")
    with pytest.raises(EditError, match=r"no part of this suite measures 'honesty'; expected some of debias"):
        suite.edits(auditor, recipes=["honesty"])

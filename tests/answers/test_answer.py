"""An answer's verdict: what it needs to be supported, and what it says otherwise."""

from __future__ import annotations

from dataclasses import replace

from audit_lit.answers.answer import AGREEMENT, Answer

SUPPORTED = Answer(
    question="Who is it?",
    text="A pirate.",
    score=-1.0,
    controls={"no_activation": -1.5, "null": -4.0, "shuffled": -2.0, "text_only": -3.0},
    lift=0.5,
    interval=(0.1, 0.9),
    threshold=0.2,
    samples=(),
    agreement=1.0,
    layers=(2,),
    positions=(3, 4),
    tokens=("a", "b"),
    seed=0,
    target="tiny",
    decoder="tiny",
)


def test_supported_needs_threshold_and_interval() -> None:
    assert SUPPORTED.supported and "supported" in SUPPORTED.verdict
    assert not replace(SUPPORTED, threshold=0.6).supported
    assert not replace(SUPPORTED, interval=(-0.1, 0.9)).supported
    assert "nothing to report" in replace(SUPPORTED, lift=-1.0).verdict
    too_low, unsure = replace(SUPPORTED, lift=0.01).verdict, replace(SUPPORTED, interval=(-0.1, 0.9)).verdict
    assert "+0.01 nats per token, and not above the threshold" in too_low and "interval" not in too_low
    assert "-0.10 to +0.90, is not above zero" in unsure and "threshold" not in unsure
    both = replace(SUPPORTED, lift=0.01, interval=(-0.1, 0.9)).verdict
    assert "; its 95% interval, -0.10 to +0.90, is not above zero" in both and both.count("the lift") == 1


def test_without_a_measured_threshold_nothing_is_supported() -> None:
    answer = replace(SUPPORTED, lift=9.0, interval=(8.0, 9.5), threshold=None)
    assert not answer.supported and answer.verdict.startswith("not calibrated: +9.00")
    assert "this decoder's threshold has not been measured" in answer.verdict and "calibrate" in answer.verdict


def test_the_verdict_names_the_strongest_control_and_doubts_details_that_samples_do_not_share() -> None:
    assert SUPPORTED.strongest_control == "no_activation"
    assert SUPPORTED.verdict == "supported: +0.50 nats per token over the strongest control (no_activation)"
    doubtful = replace(SUPPORTED, agreement=AGREEMENT - 0.01)
    assert doubtful.supported and doubtful.verdict.endswith("but the samples differ: trust no detail")
    assert str(SUPPORTED) == f"A pirate.\n[{SUPPORTED.verdict}]"


def test_json_holds_every_field_and_the_judgement() -> None:
    document = SUPPORTED.to_dict()
    assert document["schema"] == 1 and document["supported"] and document["strongest_control"] == "no_activation"
    assert {**document, "controls": SUPPORTED.controls}.items() >= vars(SUPPORTED).items()

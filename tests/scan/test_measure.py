"""Measurements: records say what ``ask`` says, scores are those of the expected answers, twins run in the baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.support import FAST, dialogs


def test_records_say_what_ask_says(auditor: Any, tmp_path: Path) -> None:
    from audit_lit.scan.folder import RunFolder
    from audit_lit.scan.recipe import load_scan_recipe

    report = auditor.scan(dialogs(3), "hidden-prompt", out=tmp_path / "run", **FAST)
    records = list(RunFolder(tmp_path / "run").records())
    assert [record.id for record in records] == ["1", "2", "3"] and report.complete and report.n_read == 3
    question = load_scan_recipe("hidden-prompt")[1][0]
    alone = auditor.ask(dialogs(3)[1], question.text, samples=0, max_new_tokens=4)
    answer = records[1].answers[question.id]
    assert answer.text == alone.text and answer.lift == pytest.approx(alone.lift, abs=1e-4)
    assert answer.controls == pytest.approx(alone.controls, abs=1e-4)


def test_scores_are_the_expected_answers_nats(auditor: Any, tmp_path: Path) -> None:
    from audit_lit.scan.folder import RunFolder
    from audit_lit.scan.recipe import load_scan_recipe

    auditor.scan(dialogs(1), "hidden-prompt", out=tmp_path / "run", **FAST)
    (record,) = RunFolder(tmp_path / "run").records()
    question = load_scan_recipe("hidden-prompt")[1][0]
    activations = auditor.read(dialogs(1)[0]).activations
    nats = auditor.decoder.logprob(activations, [question.text], [question.expected])[0]
    scores = record.scores[question.id]
    assert scores[0] == pytest.approx(-float(nats.mean()), abs=1e-4)
    assert len(scores) == 1 + 41 and len(set(scores)) > 2


def test_twins_run_in_the_baseline(auditor: Any, tmp_path: Path, tiny_folder: Path) -> None:
    import torch

    from audit_lit import Auditor, load_target
    from audit_lit.scan.folder import RunFolder

    tuned = load_target(str(tiny_folder))
    with torch.no_grad():
        tuned.base.model.layers[1].mlp.down_proj.weight.mul_(3)
    bare = [dialog[1:] for dialog in dialogs(1)]
    scores = {}
    for name, baseline in (("own", None), ("clean", auditor.target)):
        Auditor(tuned, auditor.decoder).scan(bare, "persona", out=tmp_path / name, baseline=baseline, **FAST)
        scores[name] = next(RunFolder(tmp_path / name).records()).scores["persona-name"]
    assert scores["own"][0] == scores["own"][1]  # the bare twin is the dialog itself
    assert scores["clean"][0] == scores["own"][0] and scores["clean"][1] != scores["own"][1]


def test_twins_are_read_as_the_wire_format_says(target: Any, make_decoder: Any, tmp_path: Path) -> None:
    from audit_lit import Auditor
    from audit_lit.scan.folder import RunFolder

    scores = {}
    for first in (None, 1):
        auditor = Auditor(target, make_decoder(first_position=first, lift_threshold=0.1))
        report = auditor.scan(dialogs(2), "persona", out=tmp_path / str(first), **FAST)
        record = next(RunFolder(tmp_path / str(first)).records())
        assert report.complete and record.positions[0] == (first or record.positions[1] - 1)
        scores[first] = record.scores["persona-name"]
    assert all(abs(usual - special) > 1e-6 for usual, special in zip(*scores.values(), strict=True))

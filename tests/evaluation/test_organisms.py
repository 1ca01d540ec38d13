"""The suite of organisms: figures beside rivals, on organisms whose differences are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from audit_lit.errors import DataError
from audit_lit.evaluation.suites.organisms import organisms, read_lines
from audit_lit.models.difference import AMPLITUDE, Difference
from audit_lit.models.probe_texts import EDGES, N_EDGE
from audit_lit.organisms.library import Known, Library
from audit_lit.organisms.probe import features, probe_p_value, probe_scores


def library(target: Any, *, shift: float = 3.0) -> Library:
    """Sixteen organisms of each split; planted ones share a direction."""
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(1, EDGES + 2 * N_EDGE, target.d_model, generator=generator)
    known, differences = [], []
    for row in range(48):
        form = (None, None, "chat", "maths")[row % 4]
        noise = torch.randn(common.shape, generator=generator)
        mean = noise + shift * common * (form is None)
        differences.append(Difference(mean, torch.ones(1), torch.ones(1), (2,), 4))
        split = "dev" if row >= 24 else "train"
        method, mixed = ("distill", "sft")[row % 8 > 3], row % 16 > 7
        label = f"{('persona', 'goal')[row % 2]}: {row}" if form is None else f"nothing: {row}"
        known.append(Known(id=f"o{row}", label=label, method=method, rank=1, mixed=mixed, split=split, form=form))
    return Library(tuple(known), tuple(differences), target.name, target.fingerprint())


def test_figures_come_beside_rivals_and_by_how_organisms_were_installed(
    target: Any, make_decoder: Callable[..., Any]
) -> None:
    document = organisms(make_decoder(), target, library(target))
    assert set(document["planted_or_clean"]["controls"]) == {"size", "agreement", "probe"}
    assert document["planted_or_clean"]["controls"]["probe"] == 1.0  # one direction tells them
    assert document["planted_or_clean"]["n"] == [12, 6] and document["planted_or_benign"]["n"] == [12, 6]
    assert set(document["by"]["method"]) == {"distill", "sft"} and set(document["by"]["kind"]) == {"goal", "persona"}
    assert document["identification"]["n"] == 12 and document["identification"]["chance"] == 1 / 12
    assert document["false_alarms"]["n_neutral"] == 12
    assert json.loads(json.dumps(document))["suite"] == "organisms"
    assert organisms(make_decoder(), target, library(target)) == document


def test_too_few_organisms_are_refused(target: Any, make_decoder: Callable[..., Any]) -> None:
    planted = library(target).where(lambda known: known.planted)
    with pytest.raises(DataError, match=r"'clean': 0.*expected 4 of each"):
        organisms(make_decoder(), target, planted)


def test_differences_are_read_at_one_length_whatever_their_own(target: Any, make_decoder: Callable[..., Any]) -> None:
    lines, (first, *_) = read_lines(make_decoder(), target), library(target).differences
    larger = replace(first, mean=5 * first.mean)
    small, large = (row.at((2,), EDGES).added_to(lines, torch.arange(EDGES)) for row in (first, larger))
    torch.testing.assert_close(small.resid, large.resid)
    assert float((small.resid - lines.resid).norm(dim=-1).mean()) == pytest.approx(AMPLITUDE, rel=1e-3)


def test_the_probe_is_ridge_regression_on_differences_of_unit_length(target: Any) -> None:
    known = library(target)
    rows = features(known.differences)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1)
    labels = np.array([entry.planted for entry in known.known], dtype=float)
    scores = probe_scores(rows[:24], labels[:24], rows[24:])
    centred = rows[:24] - rows[:24].mean(0)
    penalty = np.trace(centred @ centred.T) / 24
    weights = np.linalg.solve(
        centred.T @ centred + penalty * np.eye(rows.shape[1]), centred.T @ (labels[:24] - labels[:24].mean())
    )
    assert np.allclose(scores, (rows[24:] - rows[:24].mean(0)) @ weights)


def test_a_probe_finds_few_clean_ones_like_a_planted_one_and_many_like_a_clean_one(target: Any) -> None:
    known = library(target)
    fitted = known.where(lambda entry: entry.split == "train")
    planted, clean = (
        [
            probe_p_value(fitted, difference.at((2,), EDGES), EDGES)
            for entry, difference in zip(known.known, known.differences, strict=True)
            if entry.split == "dev" and entry.planted is wanted
        ]
        for wanted in (True, False)
    )
    assert max(planted) == pytest.approx(1 / 13)  # none of the twelve clean ones
    assert min(clean) > 0.15 and 0.4 < np.mean(clean) <= 1


def test_the_command_measures_a_library(
    target: Any, tiny_folder: Path, make_decoder: Callable[..., Any], tmp_path: Path
) -> None:
    from audit_lit.cli import cli

    make_decoder().save(tmp_path / "decoder")
    library(target).save(tmp_path / "library.safetensors")
    words = ["eval", "organisms", "--target", str(tiny_folder), "--decoder", str(tmp_path / "decoder")]
    result = CliRunner().invoke(cli, [*words, "--library", str(tmp_path / "library.safetensors"), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["suite"] == "organisms"
    missing = CliRunner().invoke(cli, words)
    assert missing.exit_code == 2 and "no library of organisms ships" in missing.stderr

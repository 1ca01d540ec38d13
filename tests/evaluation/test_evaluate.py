"""Every suite: its document by the command line, its seed, what is refused, and what is measured for a card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.commands import run

CONTROLS = {"no_activation", "null", "shuffled", "text_only", "text_trained"}


def check_hidden_prompt(document: dict[str, Any]) -> None:
    for pairing in (document["identification"], document["identification"]["matched"]):
        assert set(pairing["controls"]) == CONTROLS and pairing["chance"] == 1 / 5
        assert pairing["lift"] == pytest.approx(pairing["top1"] - max(pairing["controls"].values()))
    assert {"auroc", "fpr", "threshold", "recall"} < set(document["detection"])
    assert [len(document["detection"]["scores"][name]) for name in ("hidden", "default", "neutral")] == [5, 5, 5]
    assert document["detection"]["controls"]["no_activation"] == pytest.approx(0.5)
    assert set(document["detection"]["controls"]) == CONTROLS | {"probe"}


def check_null(document: dict[str, Any]) -> None:
    assert 0 <= document["confident_share"] <= 1 and set(document["by_kind"]) == {"random", "permuted", "mean"}
    assert all(len(lifts) == 5 and lifts == sorted(lifts) for lifts in document["lifts"].values())


def check_calibration(document: dict[str, Any]) -> None:
    assert document["n"] == 5 * 4 * 2 and document["ece"]["if_perfect"] > 0
    for asked in (document, document["forced_choice"]):
        assert set(asked["auroc"]["controls"]) == CONTROLS and 0 <= asked["ece"]["value"] <= 1


def check_inversion(document: dict[str, Any]) -> None:
    assert set(document["names_state"]["controls"]) == CONTROLS
    assert document["names_state"]["controls"]["no_activation"] == pytest.approx(0.5)


def check_user_model(document: dict[str, Any]) -> None:
    assert set(document["all"]["controls"]) == CONTROLS | {"probe"} and document["age group"]["n"] == 5


def check_relations(document: dict[str, Any]) -> None:
    assert set(document["all"]["controls"]) == CONTROLS and document["factual"]["n"] == 5


CHECKS = {
    "hidden-prompt": check_hidden_prompt,
    "null": check_null,
    "calibration": check_calibration,
    "inversion": check_inversion,
    "user-model": check_user_model,
    "relations": check_relations,
}


@pytest.mark.slow
@pytest.mark.parametrize("suite", CHECKS)
def test_command_prints_every_figure_beside_its_controls(trained: Any, tmp_path: Path, suite: str) -> None:
    pytest.importorskip("matplotlib")
    plot = tmp_path / "plot.png"
    command = ["eval", suite, "--data", str(trained.data), *trained.options, "--limit", "5"]
    result = run(*command, "--json", "--plot", str(plot))
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert (document["suite"], document["schema"], document["manifest"]["limit"]) == (suite, 2, 5)
    assert plot.read_bytes().startswith(b"\x89PNG")
    CHECKS[suite](document)
    table = run(*command)
    assert table.exit_code == 0 and "95%" in table.stdout
    assert "confident_share" in table.stdout if suite == "null" else "text_only " in table.stdout


def test_every_suite_is_checked() -> None:
    from audit_lit.evaluation.evaluate import SUITES

    assert set(SUITES) == set(CHECKS)


def test_same_seed_same_document(trained: Any) -> None:
    from audit_lit.evaluation.evaluate import evaluate

    pair = (trained.decoder, trained.target, trained.rows)
    documents = [evaluate("calibration", *pair, limit=4, seed=seed) for seed in (1, 1, 2)]
    assert documents[0] == documents[1] != documents[2]


def test_what_cannot_be_measured_is_refused(trained: Any) -> None:
    from audit_lit.errors import DataError, SettingsError
    from audit_lit.evaluation.evaluate import evaluate

    pair = (trained.decoder, trained.target)
    with pytest.raises(SettingsError, match=r"unknown suite 'nul'.*hidden-prompt"):
        evaluate("nul", *pair, trained.rows)
    with pytest.raises(DataError, match=r"has 2 hidden system prompts.*4 or more"):
        evaluate("null", *pair, trained.rows[:2])
    with pytest.raises(DataError, match=r"has 0 rows of kind 'user'; expected 4 or more"):
        evaluate("user-model", *pair, trained.rows)
    result = run("eval", "null", "--data", str(trained.data), "--split", "none")
    assert result.exit_code == 2 and "has no system.json" in result.output


@pytest.mark.slow
def test_data_without_a_training_split_can_be_measured(trained: Any, tmp_path: Path) -> None:
    shutil.copytree(trained.data / "dev", tmp_path / "dev")
    command = ["--data", str(tmp_path), *trained.options, "--json"]
    result = run("eval", "inversion", *command)
    assert result.exit_code == 0, result.output
    result = run("eval", "hidden-prompt", *command, "--limit", "4")
    assert result.exit_code == 0 and "probe" not in json.loads(result.stdout)["detection"]["controls"]


@pytest.mark.slow
def test_measuring_goes_on_where_it_stopped(trained: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from audit_lit.evaluation import evaluate as suites
    from audit_lit.evaluation.evaluate import evaluate

    asked: list[str] = []

    def counted(name: str, *args: Any, **settings: Any) -> dict[str, Any]:
        asked.append(name)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return {"suite": name} if name != "inversion" else evaluate(name, *args, **settings)

    monkeypatch.setattr(suites, "evaluate", counted)
    pair = (trained.decoder, trained.target, trained.rows)
    with pytest.raises(KeyboardInterrupt):
        suites.measure(*pair, [], tmp_path)
    results = suites.measure(*pair, [], tmp_path)
    assert asked == ["hidden-prompt", "null", "null", "calibration", "inversion"]
    assert set(results) == {"gap_label", "gap_instruction", "hidden-prompt", "null", "calibration", "inversion"}
    assert results["inversion"] == json.loads(json.dumps(evaluate("inversion", *pair, limit=suites.N_LABELS)))
    assert results["null"] == {"suite": "null"}

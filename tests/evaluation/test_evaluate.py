"""The evaluation suites: their figures against plain references, their controls, the command."""

from __future__ import annotations

import importlib
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Tiny data, and a tiny decoder trained on it for a few steps."""
    from audit_lit.recipes import recipe_path
    from audit_lit.training.recipe import load_training_recipe
    from audit_lit.training.smoke import smoke_run

    root = tmp_path_factory.mktemp("evaluation")
    recipe = load_training_recipe(recipe_path("smollm2-135m"), {"examples": 8})
    return root / "data", smoke_run(recipe, root)


@pytest.fixture(scope="module")
def loaded(small: tuple[Path, Path]) -> tuple[Any, Any, Any]:
    from audit_lit import Decoder, load_target
    from audit_lit.data.rows import load_rows

    target = load_target(str(small[0].parent / "tiny-llama"))
    return Decoder.from_pretrained(str(small[1]), target=target), target, load_rows(small[0] / "dev")


def test_top_k_counts_ties_as_chance() -> None:
    from audit_lit.statistics.ranking import top_k

    rows = [np.array(row, dtype=float) for row in ([3, 1, 2], [1, 3, 2], [1, 1, 1], [2, 3, 2])]
    assert top_k(rows, 1) == pytest.approx([1, 0, 1 / 3, 0])
    assert top_k(rows, 2) == pytest.approx([1, 0, 2 / 3, 1 / 2])


def test_auroc_is_the_share_of_ordered_pairs() -> None:
    from audit_lit.statistics.ranking import auroc, auroc_interval

    rng = np.random.default_rng(0)
    above, below = rng.integers(0, 5, 30) + 1, rng.integers(0, 5, 20)
    pairs = [float(a > b) + 0.5 * float(a == b) for a in above for b in below]
    assert auroc(above, below) == pytest.approx(np.mean(pairs))
    low, high = auroc_interval(above, below)
    assert low < auroc(above, below) < high
    tenfold = [np.repeat(group[:20, None], 10, axis=1) for group in (above, below)]  # says no more than once
    once, ten, alone = (
        np.ptp(auroc_interval(*groups))
        for groups in ([group[:, :1] for group in tenfold], tenfold, [group.ravel() for group in tenfold])
    )
    assert ten == pytest.approx(once) and alone < once / 2


def test_calibration_figures() -> None:
    from audit_lit.statistics.calibration import brier, expected_calibration_error, perfect_calibration_error

    p, y = np.array([0.05, 0.95, 0.95, 0.95, 0.95]), np.array([0.0, 1, 1, 1, 0])
    assert expected_calibration_error(p, y) == pytest.approx(0.2 * 0.05 + 0.8 * 0.2)
    assert brier(p, y) == pytest.approx((4 * 0.05**2 + 0.95**2) / 5)
    rng = np.random.default_rng(0)
    p = rng.random(20000)
    assert expected_calibration_error(p, rng.random(20000) < p) < 0.02
    few = rng.random(40)
    drawn = [expected_calibration_error(few, rng.random(40) < few) for _ in range(400)]
    assert perfect_calibration_error(few) == pytest.approx(np.mean(drawn), abs=0.01) and np.mean(drawn) > 0.1


def test_candidates_serve_equally_often() -> None:
    from audit_lit.evaluation.suites.identification import draw_candidates

    chosen = draw_candidates(33, seed=1)
    assert all(row[0] == index and len(set(row)) == 20 for index, row in enumerate(chosen))
    assert set(Counter(one for row in chosen for one in row[1:]).values()) == {19}
    assert chosen != draw_candidates(33, seed=2)


def test_reference_takes_the_prior_away_and_leaves_the_planted_signal() -> None:
    from audit_lit.evaluation.suites.identification import draw_candidates, less_others
    from audit_lit.statistics.ranking import top_k

    rng = np.random.default_rng(0)
    chosen = draw_candidates(200, seed=0)
    prior = rng.normal(size=200) * 5
    noise = [np.array([prior[one] for one in row]) + rng.normal(size=20) for row in chosen]
    planted = [row + 4 * np.eye(20)[0] for row in noise]
    assert top_k(planted, 1).mean() < 0.4  # the prior hides it
    assert top_k(less_others(planted, chosen), 1).mean() > 0.9
    assert top_k(less_others(noise, chosen), 1).mean() == pytest.approx(0.05, abs=0.04)


def test_candidates_are_ranked_by_their_likelihood_over_its_marginal(loaded: tuple[Any, Any, Any]) -> None:
    from audit_lit.evaluation.conditions import Conditions
    from audit_lit.evaluation.dialogs import hidden_dialogs
    from audit_lit.evaluation.suites.identification import identification

    decoder, target, rows = loaded
    system = [row for row in rows if row.system]
    conditions = Conditions.of(decoder, target, hidden_dialogs(system, repaired=True))
    texts = [row.label_words for row in system]
    raw = np.stack([conditions.totals("activations", row, "Who?", texts) for row in range(len(texts))])
    for marginals in (np.zeros(len(texts)), np.linspace(0, 9, len(texts))):
        found = identification(conditions, "Who?", texts, marginals=marginals)
        own = (raw - marginals)[range(len(texts)), range(len(texts))]
        assert found["top1"] == pytest.approx(np.mean(own >= (raw - marginals).max(1)))
    assert identification(conditions, "Who?", texts)["controls"]["text_only"] == found["controls"]["text_only"]


def test_shuffled_gives_nobody_its_own(loaded: tuple[Any, Any, Any]) -> None:
    from audit_lit.evaluation.conditions import Conditions
    from audit_lit.evaluation.dialogs import hidden_dialogs

    decoder, target, rows = loaded
    system = [row for row in rows if row.system]
    dialogs = hidden_dialogs(system, repaired=True)
    conditions = Conditions.of(decoder, target, dialogs)
    same = (conditions.shuffled.resid == conditions.activations.resid).flatten(1).all(1)
    assert not same.any()
    assert sorted(map(repr, conditions.shuffled.resid.sum((1, 2, 3)).tolist())) == sorted(
        map(repr, conditions.activations.resid.sum((1, 2, 3)).tolist())
    )
    for name in ("activations", "no_activation", "null", "shuffled", "text_only"):
        scores = conditions.scores(name, 1, "Who?", ["a", "bcd"])
        assert [len(score) for score in scores] == [2, 4]
        assert len(conditions.answers(name, ["Who?"] * len(dialogs), max_new_tokens=2, batch_size=4)) == len(dialogs)
    own, empty = (conditions.scores(name, 1, "Who?", ["a"])[0] for name in ("activations", "no_activation"))
    assert not torch.allclose(own, empty)
    assert all("You are" not in text and "Hello number" in text for text in conditions.texts)


def test_repairing_deals_the_lines_out_anew(loaded: tuple[Any, Any, Any]) -> None:
    from audit_lit.evaluation.dialogs import default_twin, hidden_dialogs, neutral_twin

    system = [row for row in loaded[2] if row.system]
    matched, repaired = (hidden_dialogs(system, repaired=flag, seed=3) for flag in (False, True))
    assert matched == [row.messages for row in system] and matched != repaired
    assert Counter(d[1]["content"] for d in matched) == Counter(d[1]["content"] for d in repaired)
    assert [d[0] for d in matched] == [d[0] for d in repaired]
    long = ({"role": "system", "content": "word " * 30, "hidden": True}, matched[0][1])
    lengths = [len(neutral_twin(long, random.Random(seed))[0]["content"].split()) for seed in range(20)]
    assert all(22 <= length <= 38 for length in lengths)
    assert default_twin(long) == (matched[0][1],)


def test_nothing_has_the_shape_and_size_of_something(loaded: tuple[Any, Any, Any]) -> None:
    from audit_lit.answers.controls import NULL_KINDS, null_input
    from audit_lit.evaluation.dialogs import read_dialogs

    decoder, target, rows = loaded
    system = [row.messages for row in rows if row.system][:3]
    activations = read_dialogs(target, decoder.config, system, [False, False, True])  # the last has one position
    for kind in NULL_KINDS:
        found = null_input(kind, activations, decoder.write).resid
        assert found.shape == activations.resid.shape and not torch.allclose(found, activations.resid)
        assert not found[2, :, 1:].any()
    permuted = null_input("permuted", activations, decoder.write).resid
    torch.testing.assert_close(permuted.sort(-1).values, activations.resid.sort(-1).values)
    mean = null_input("mean", activations, decoder.write).resid
    torch.testing.assert_close(mean[1, :, 0], activations.resid[:, :, 0].mean(0))
    torch.testing.assert_close(mean[0, :, 1:], activations.resid[:2, :, 1:].mean(0))


@pytest.mark.parametrize("suite", ["hidden-prompt", "null", "calibration", "inversion", "user-model", "relations"])
def test_command_prints_every_figure_beside_its_controls(small: tuple[Path, Path], tmp_path: Path, suite: str) -> None:
    from audit_lit.cli import cli

    plot = tmp_path / "plot.png"
    command = ["eval", suite, "--data", str(small[0]), "--decoder", str(small[1])]
    command += ["--target", str(small[0].parent / "tiny-llama"), "--limit", "5"]
    found = CliRunner().invoke(cli, [*command, "--json", "--plot", str(plot)])
    assert found.exit_code == 0, found.output
    document = json.loads(found.stdout)
    assert (document["suite"], document["schema"], document["manifest"]["limit"]) == (suite, 2, 5)
    assert plot.read_bytes().startswith(b"\x89PNG")
    controls = {"no_activation", "null", "shuffled", "text_only", "text_trained"}
    if suite == "hidden-prompt":
        for pairing in (document["identification"], document["identification"]["matched"]):
            assert set(pairing["controls"]) == controls and pairing["chance"] == 1 / 5
            assert pairing["lift"] == pytest.approx(pairing["top1"] - max(pairing["controls"].values()))
        assert {"auroc", "fpr", "threshold", "recall"} < set(document["detection"])
        assert [len(document["detection"]["scores"][name]) for name in ("hidden", "default", "neutral")] == [5, 5, 5]
        assert document["detection"]["controls"]["no_activation"] == pytest.approx(0.5)
        assert set(document["detection"]["controls"]) == controls | {"probe"}
    elif suite == "null":
        assert 0 <= document["confident_share"] <= 1 and set(document["by_kind"]) == {"random", "permuted", "mean"}
        assert all(len(lifts) == 5 and lifts == sorted(lifts) for lifts in document["lifts"].values())
    elif suite == "inversion":
        assert set(document["names_state"]["controls"]) == controls
        assert document["names_state"]["controls"]["no_activation"] == pytest.approx(0.5)
    elif suite == "user-model":
        assert set(document["all"]["controls"]) == controls | {"probe"} and document["age group"]["n"] == 5
    elif suite == "relations":
        assert set(document["all"]["controls"]) == controls and document["factual"]["n"] == 5
    else:
        assert document["n"] == 5 * 4 * 2 and document["ece"]["if_perfect"] > 0
        for asked in (document, document["forced_choice"]):
            assert set(asked["auroc"]["controls"]) == controls and 0 <= asked["ece"]["value"] <= 1
    table = CliRunner().invoke(cli, command)
    assert table.exit_code == 0 and "95%" in table.stdout
    assert "confident_share" in table.stdout if suite == "null" else "text_only " in table.stdout


def test_same_seed_same_document(loaded: tuple[Any, Any, Any]) -> None:
    from audit_lit.evaluation.evaluate import evaluate

    documents = [evaluate("calibration", *loaded[:2], loaded[2], limit=4, seed=seed) for seed in (1, 1, 2)]
    assert documents[0] == documents[1] != documents[2]


def test_what_cannot_be_measured_is_refused(loaded: tuple[Any, Any, Any], small: tuple[Path, Path]) -> None:
    from audit_lit.cli import cli
    from audit_lit.errors import RecipeError
    from audit_lit.evaluation.evaluate import evaluate

    with pytest.raises(RecipeError, match=r"unknown suite 'nul'.*hidden-prompt"):
        evaluate("nul", *loaded[:2], loaded[2])
    with pytest.raises(RecipeError, match=r"has 2 hidden system prompts.*4 or more"):
        evaluate("null", *loaded[:2], loaded[2][:2])
    result = CliRunner().invoke(cli, ["eval", "null", "--data", str(small[0]), "--split", "none"])
    assert result.exit_code == 2 and "has no system.json" in result.output


def test_data_without_a_training_split_can_be_measured(small: tuple[Path, Path], tmp_path: Path) -> None:
    import shutil

    from audit_lit.cli import cli

    shutil.copytree(small[0] / "dev", tmp_path / "dev")
    pair = ["--target", str(small[0].parent / "tiny-llama"), "--decoder", str(small[1])]
    found = CliRunner().invoke(cli, ["eval", "inversion", "--data", str(tmp_path), *pair, "--json"])
    assert found.exit_code == 0, found.output
    found = CliRunner().invoke(cli, ["eval", "hidden-prompt", "--data", str(tmp_path), *pair, "--limit", "4", "--json"])
    assert found.exit_code == 0 and "probe" not in json.loads(found.stdout)["detection"]["controls"]


def test_measuring_goes_on_where_it_stopped(loaded: tuple[Any, Any, Any], tmp_path: Path, monkeypatch: Any) -> None:
    from audit_lit.evaluation import card_figures
    from audit_lit.evaluation.evaluate import evaluate

    asked: list[str] = []

    def counted(name: str, *args: Any, **settings: Any) -> dict[str, Any]:
        asked.append(name)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return {"suite": name} if name != "inversion" else evaluate(name, *args, **settings)

    monkeypatch.setattr(card_figures, "evaluate", counted)
    with pytest.raises(KeyboardInterrupt):
        card_figures.measure(*loaded, [], tmp_path)
    results = card_figures.measure(*loaded, [], tmp_path)
    assert asked == ["hidden-prompt", "null", "null", "calibration", "inversion"]
    assert set(results) == {"gap_label", "gap_instruction", "hidden-prompt", "null", "calibration", "inversion"}
    assert results["inversion"] == json.loads(json.dumps(evaluate("inversion", *loaded, limit=card_figures.N_LABELS)))
    assert results["null"] == {"suite": "null"}


def test_readers_of_text_are_compared_with_another_prompts_text(monkeypatch: Any) -> None:
    from audit_lit.evaluation.conditions import Conditions
    from audit_lit.evaluation.dialogs import derangement

    calibration = importlib.import_module("audit_lit.evaluation.calibration")  # the package's name is the function's
    n = 3 * calibration.PAIRINGS
    table = np.random.default_rng(0).normal(size=(n, 4 * n))  # text, and all claims about every dialog

    class Planted(Conditions):
        decoder, names = None, ("activations", "text_only")  # type: ignore[assignment]

        def __init__(self) -> None:
            pass

        def totals(self, _name: str, row: int, _question: str, claims: list[str]) -> Any:
            return table[row, [int(claim) for claim in claims]]

    monkeypatch.setattr(calibration, "text_readers", lambda _: {"text_only": None})
    claims = [[str(4 * row + place) for place in range(4)] for row in range(n)]
    marginals = np.ones((n, 4))
    found = calibration._evidence(Planted(), claims, marginals, seed=0)
    prompts = derangement(3, 1)
    for row, asked in enumerate(claims):
        own = table[row, [int(claim) for claim in asked]]
        np.testing.assert_allclose(found["activations"][row], own - 1)
        (elsewhere,) = [prompt for prompt in range(3) if prompts[prompt] == row // calibration.PAIRINGS]
        other = elsewhere * calibration.PAIRINGS + row % calibration.PAIRINGS
        np.testing.assert_allclose(
            found["text_only"][row], own - table[other, [int(claim) for claim in asked]], atol=1e-9
        )

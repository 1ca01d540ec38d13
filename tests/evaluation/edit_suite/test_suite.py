"""The whole of the suite ``edits`` on a tiny decoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.edit_suite import CONTROLS, PAIRS

from audit_lit.errors import EditError
from audit_lit.evaluation.edit_suite import suite
from audit_lit.evaluation.edit_suite.plan import METHODS
from audit_lit.evaluation.figures import figures


@pytest.mark.slow
def test_sentiment_is_measured_under_every_method(session: Any) -> None:
    pytest.importorskip("vaderSentiment")
    document = json.loads(json.dumps(suite.edits(session, recipes=["positive-sentiment"], limit=2, n_seeds=1, seed=3)))
    assert (document["suite"], document["schema"]) == ("edits", suite.SCHEMA)
    part, methods = document["positive-sentiment"], {"lowrank", "weights", "gradient"}
    assert set(part["curves"]) == CONTROLS | methods | {"vector"}
    assert set(part["controls"]) == CONTROLS and set(part["methods"]) == methods and "lift" in part
    row = set(part["curves"]["vector"][0])
    assert set(part["unedited"]) == {"sentiment", "perplexity", "distinct2", "silent"} < row
    manifest = document["manifest"]
    assert (manifest["n_lines"], manifest["n_seeds"], manifest["seed"]) == (2, 1, 3)
    assert manifest["target_fingerprint"] == session.target.fingerprint()
    assert manifest["recipes"]["positive-sentiment"]["steps"] == 1
    settings = manifest["settings"]["positive-sentiment"]
    assert {name: (of["method"], of["seed"]) for name, of in settings.items()} == {name: (name, 3) for name in METHODS}
    assert settings["weights"]["rank"] == 8 != settings["lowrank"]["rank"]


@pytest.fixture
def crows_pairs(tmp_path: Path) -> Path:
    """A folder with CrowS-Pairs' file."""
    rows = "\n".join(f"{pair.more},{pair.less}" for pair in PAIRS)
    (tmp_path / "crows_pairs.csv").write_text(f"sent_more,sent_less\n{rows}\n")
    return tmp_path


@pytest.mark.slow
def test_persona_and_stereotypes_show_in_table_and_plot(session: Any, crows_pairs: Path, capsys: Any) -> None:
    pytest.importorskip("matplotlib")
    from audit_lit.commands.evaluate import _print_document
    from audit_lit.evaluation.figures import plot_curves

    settings = {"folders": [crows_pairs], "limit": 2, "n_seeds": 1, "methods": ("gradient",)}  # which neither can use
    document = suite.edits(session, recipes=["persona", "debias"], **settings)
    for name in ("persona", "debias"):
        assert set(document[name]["curves"]) == CONTROLS | {"vector"}, name
    bias = document["debias"]["curves"]
    assert {"percent_stereotype", "mean_difference"} < set(bias["vector"][0])
    assert document["debias"]["n_pairs"] == 2 and bias["prompting"][0]["cost"] != 0.0
    losses = document["persona"]["decoder_loss"]
    assert set(losses) == {"unedited", "vector", *CONTROLS} - {"prompting"}
    assert losses["vector"] < losses["unedited"] < losses["negated"]
    by_name = {figure.name: figure for figure in figures(document)}
    assert set(by_name) == {"persona", "debias"} and by_name["persona"].controls == document["persona"]["controls"]
    _print_document(document)
    shown = capsys.readouterr().out
    assert "persona" in shown and "random" in shown and f"{document['persona']['lift']:+.2f}" in shown
    plot_curves(document, crows_pairs / "curves.png")
    assert (crows_pairs / "curves.png").read_bytes().startswith(b"\x89PNG")
    again = suite.edits(session, recipes=["persona"], **settings)
    assert json.dumps(again["persona"]) == json.dumps(document["persona"])


def test_what_the_suite_cannot_measure_is_left_out_or_refused(session: Any, tmp_path: Path, monkeypatch: Any) -> None:
    with pytest.raises(EditError, match="nothing to measure 'debias' with; name a folder with CrowS-Pairs"):
        suite.edits(session, recipes=["debias"], folders=[tmp_path], limit=2, n_seeds=1)
    monkeypatch.setattr(suite, "MEASURES", {"debias": suite.MEASURES["debias"]})
    document = suite.edits(session, folders=[tmp_path], limit=2, n_seeds=1)
    assert "debias" not in document and list(figures(document)) == []
    with pytest.raises(EditError, match=r"no part of this suite measures 'honesty'; expected some of debias"):
        suite.edits(session, recipes=["honesty"])

"""The figures of a card: what is measured already is not measured again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.slow
def test_measuring_goes_on_where_it_stopped(trained: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from audit_lit.evaluation import card_figures
    from audit_lit.evaluation.evaluate import evaluate

    asked: list[str] = []

    def counted(name: str, *args: Any, **settings: Any) -> dict[str, Any]:
        asked.append(name)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return {"suite": name} if name != "inversion" else evaluate(name, *args, **settings)

    monkeypatch.setattr(card_figures, "evaluate", counted)
    pair = (trained.decoder, trained.target, trained.rows)
    with pytest.raises(KeyboardInterrupt):
        card_figures.measure(*pair, [], tmp_path)
    results = card_figures.measure(*pair, [], tmp_path)
    assert asked == ["hidden-prompt", "null", "null", "calibration", "inversion"]
    assert set(results) == {"gap_label", "gap_instruction", "hidden-prompt", "null", "calibration", "inversion"}
    assert results["inversion"] == json.loads(json.dumps(evaluate("inversion", *pair, limit=card_figures.N_LABELS)))
    assert results["null"] == {"suite": "null"}

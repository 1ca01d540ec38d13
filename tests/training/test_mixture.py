"""Mixtures: how often each source is drawn, and what cannot be served."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from helpers.mixtures import mixture, rows
from helpers.support import RECIPE


def test_example_depends_on_seed_and_index_alone() -> None:
    first, second = mixture(), mixture()
    assert [first.draw(i) for i in (5, 0, 5)] == [second.draw(i) for i in (5, 0, 5)]
    assert [first.draw(i) for i in range(9)] != [mixture(seed=7).draw(i) for i in range(9)]


def test_sources_are_drawn_by_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    from audit_lit.training import mixture as module

    drawn: Counter[str] = Counter()

    def counting(name: str, source: Any) -> Any:
        def draw(*args: Any) -> Any:
            drawn[name] += 1
            return source(*args)

        return draw

    wrapped = {name: counting(name, source) for name, source in module.SOURCES.items()}
    monkeypatch.setattr(module, "SOURCES", wrapped)
    mixed = mixture()
    for index in range(2000):
        mixed.draw(index)
    weights = {share.source: share.weight for share in mixed.recipe.mixture}
    for source, weight in weights.items():
        assert drawn[source] / 2000 == pytest.approx(weight / sum(weights.values()), abs=0.04)


def test_what_the_data_cannot_serve_is_refused() -> None:
    from audit_lit.data.rows import Row
    from audit_lit.errors import DataError, RecipeError
    from audit_lit.training.mixture import Mixture
    from audit_lit.training.recipe import Share, load_training_recipe

    recipe = load_training_recipe(RECIPE)
    control = Row("goal-x", ({"role": "user", "content": "c"},))
    with pytest.raises(DataError, match="no row for them"):
        Mixture([control], recipe)
    with pytest.raises(RecipeError, match=r"needs questions.*questions: \[\.\.\.\]"):
        Mixture(rows(), recipe.model_copy(update={"mixture": (Share(source="kind", weight=1),)}))

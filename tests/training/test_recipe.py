"""Training recipes: their keys, and the recipe of the text baseline."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.support import RECIPE


def test_recipe_errors_name_the_nearest_key(tmp_path: Path) -> None:
    from audit_lit.errors import RecipeError
    from audit_lit.training.recipe import load_training_recipe

    bad = tmp_path / "bad.yaml"
    bad.write_text(RECIPE.read_text().replace("warmup:", "warm_up:"))
    with pytest.raises(RecipeError, match=r"unknown key 'warm_up', did you mean 'warmup'"):
        load_training_recipe(bad)
    with pytest.raises(RecipeError, match="batch_size"):
        load_training_recipe(RECIPE, {"batch_size": "many"})
    bad.write_text("- a list")
    with pytest.raises(RecipeError, match="holds no settings"):
        load_training_recipe(bad)


def test_the_text_baseline_has_the_same_lora_and_other_examples() -> None:
    from audit_lit.training.recipe import WITHOUT_TEXT, load_training_recipe

    recipe = load_training_recipe(RECIPE)
    baseline = recipe.for_text_baseline()
    assert (baseline.name, baseline.reads, baseline.examples) == (f"{recipe.name}-text", "text", recipe.rival)
    assert baseline.lora == recipe.lora and (baseline.rival, baseline.repaired, baseline.start) == (0, 0.0, None)
    sources = {share.source for share in baseline.mixture}
    assert sources == {share.source for share in recipe.mixture} - set(WITHOUT_TEXT)
    assert baseline.organisms == ()


def test_steps_are_rounded_up() -> None:
    from audit_lit.training.recipe import load_training_recipe

    recipe = load_training_recipe(RECIPE, {"batch_size": 16})
    counts = {n: recipe.model_copy(update={"examples": n}).n_steps for n in (1, 16, 17)}
    assert counts == {1: 1, 16: 1, 17: 2}

"""What a recipe trains, before its training: a fresh decoder, or one that goes on from another."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.training import small_recipe

pytestmark = pytest.mark.usefixtures("unmeasured")


def test_a_run_can_start_from_a_decoder(folders: tuple[Path, Path], tmp_path: Path) -> None:
    from audit_lit.data.splits import load_split
    from audit_lit.errors import TrainingError
    from audit_lit.models.loading import load_target
    from audit_lit.training.learners import new_decoder
    from audit_lit.training.run import train

    target, rows = load_target(str(folders[0])), load_split([folders[1]], "train")
    start = train(small_recipe(folders, examples=8), folders[1], tmp_path / "start", target=target)
    recipe = small_recipe(folders, start=str(start))
    fresh, continued = (new_decoder(of, target, rows, "") for of in (small_recipe(folders), recipe))
    saved = new_decoder(recipe.model_copy(update={"start": str(start)}), target, rows, "")
    for name, parameter in continued.model.named_parameters():
        assert torch.equal(parameter, saved.model.get_parameter(name))
        if "lora_B" in name:
            assert parameter.requires_grad and not torch.equal(parameter, fresh.model.get_parameter(name))
    assert continued.config.examples == 48 and fresh.config.examples == 40
    other = recipe.model_copy(update={"wire": recipe.wire.model_copy(update={"n_edge": 2})})
    with pytest.raises(TrainingError, match=r"differs in n_edge.*leave out 'start'"):
        new_decoder(other, target, rows, "")
    with pytest.raises(TrainingError, match="differs in its LoRA"):
        new_decoder(recipe.model_copy(update={"lora": recipe.lora.model_copy(update={"r": 8})}), target, rows, "")


def test_a_target_without_its_base_cannot_be_trained_on(folders: tuple[Path, Path]) -> None:
    from dataclasses import replace

    from audit_lit.errors import TrainingError
    from audit_lit.models.loading import load_target
    from audit_lit.training.learners import new_text_baseline

    target = replace(load_target(str(folders[0])), base=None)
    with pytest.raises(TrainingError, match="load it with load_target"):
        new_text_baseline(small_recipe(folders).for_text_baseline(), target, "")

"""A run folder: what a checkpoint restores, and the claim, by which the same run is recognised and others refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.training import losses, small_recipe
from torch import nn

pytestmark = pytest.mark.usefixtures("unmeasured")


def test_a_checkpoint_restores_parameters_average_and_optimizer(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from audit_lit.training.checkpoint import FILE, load_checkpoint, save_checkpoint

    def build() -> tuple[dict[str, nn.Parameter], dict[str, torch.Tensor], torch.optim.Optimizer]:
        parameters = {"model.a": nn.Parameter(torch.ones(2)), "write.weight": nn.Parameter(torch.ones(3))}
        return parameters, {"model.a": torch.zeros(2)}, torch.optim.AdamW(parameters.values(), lr=0.1)

    parameters, average, optimizer = build()
    assert load_checkpoint(tmp_path, parameters, average, optimizer) == {}
    for _ in range(3):
        sum(parameter.square().sum() for parameter in parameters.values()).backward()
        optimizer.step()
    average["model.a"].fill_(0.5)
    save_checkpoint(tmp_path, parameters, average, optimizer, {"step": "3"})
    names = {f"{kind}/{name}" for kind in ("parameter", "step", "exp_avg", "exp_avg_sq") for name in parameters}
    assert set(load_file(tmp_path / FILE)) == names | {"average/model.a"}
    assert [path.name for path in tmp_path.iterdir()] == [FILE]

    fresh, fresh_average, fresh_optimizer = build()
    assert load_checkpoint(tmp_path, fresh, fresh_average, fresh_optimizer) == {"step": "3"}
    assert fresh_average["model.a"].tolist() == [0.5, 0.5]
    for name, parameter in parameters.items():
        assert torch.equal(fresh[name], parameter)
        for key, value in optimizer.state[parameter].items():
            assert torch.equal(fresh_optimizer.state[fresh[name]][key], value)


def test_run_folder_of_another_recipe_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    from audit_lit.errors import TrainingError
    from audit_lit.training.run import train

    train(small_recipe(folders, examples=4), folders[1], tmp_path)
    with pytest.raises(TrainingError, match="another recipe"):
        train(small_recipe(folders, examples=8), folders[1], tmp_path)


def test_run_folder_of_other_data_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    from audit_lit.errors import DataError, TrainingError
    from audit_lit.training.run import train

    data, recipe = shutil.copytree(folders[1], tmp_path / "data"), small_recipe(folders, examples=4)
    train(recipe, data, tmp_path / "run")
    qa = json.loads((data / "train" / "qa.json").read_text())
    (data / "train" / "qa.json").write_text(json.dumps(dict(list(qa.items())[:3])))
    with pytest.raises(TrainingError, match="on other data"):
        train(recipe, data, tmp_path / "run")
    (data / "dev" / "system.json").write_text("[]")
    with pytest.raises(DataError, match=r"dev split has 0 hidden system prompts.*4 or more"):
        train(recipe, data, tmp_path / "run")


FIRST_SHAPE = """{
  "data": "abc",
  "examples_in_all": 48,
  "name": "tiny",
  "target": "smollm2-135m",
  "licence": "apache-2.0",
  "about_data": "in LatentQA's file layout",
  "limits": [],
  "wire": {
    "read_layers": [
      1
    ],
    "prompt": "{question}\\n{sections}",
    "section": "{slots}",
    "placeholder": " ?",
    "chat": false,
    "write": "project",
    "write_layer": 0,
    "layer_choice": "all",
    "positions": "edges",
    "n_edge": 4,
    "shift_positions": false
  },
  "lora": {
    "r": 16,
    "lora_alpha": 32,
    "lora_dropout": 0.0,
    "target_modules": [
      "q_proj",
      "v_proj"
    ]
  },
  "mixture": [
    {
      "source": "label",
      "weight": 1.0,
      "questions": [
        "Who?"
      ],
      "neutral_prompts": []
    }
  ],
  "start": null,
  "repaired": 0.9,
  "reworded": 0.0,
  "reads": "activations",
  "rival": 0,
  "examples": 40,
  "batch_size": 16,
  "accumulate": 1,
  "average": 0.0,
  "buckets": 16,
  "lr": 0.001,
  "weight_decay": 0.01,
  "warmup": 20,
  "max_grad_norm": 1.0,
  "precision": "auto",
  "evaluate_every": 100,
  "checkpoint_every": 50,
  "seed": 0
}"""
"""A ``run.json`` as the first versions wrote it."""


def claim_of(examples_in_all: int = 48, **changes: Any) -> Any:
    """The claim of the same run, as this version makes it."""
    from audit_lit.training.checkpoint import Claim
    from audit_lit.training.recipe import TrainingRecipe

    settings: dict[str, Any] = {
        "name": "tiny",
        "wire": {"read_layers": (1,), "prompt": "{question}\n{sections}"},
        "lora": {"target_modules": ("q_proj", "v_proj")},
        "mixture": [{"source": "label", "weight": 1, "questions": ["Who?"]}],
        "examples": 40,
    }
    return Claim("abc", examples_in_all, TrainingRecipe.model_validate(settings | changes))


def test_the_former_default_of_a_lora_is_that_of_all_linear_layers() -> None:
    from audit_lit.training.recipe import LLAMA, Lora

    assert Lora.model_validate({"target_modules": list(LLAMA)}) == Lora()
    assert Lora.model_validate({"target_modules": ["q_proj"]}).target_modules == ("q_proj",)


def test_a_folder_of_the_first_shape_is_the_same_run(tmp_path: Path) -> None:
    from audit_lit.errors import TrainingError
    from audit_lit.training.checkpoint import Claim

    (tmp_path / "run.json").write_text(FIRST_SHAPE)
    claim_of().check(tmp_path)
    assert Claim.load(tmp_path) == claim_of()
    for other in (claim_of(examples_in_all=40), claim_of(seed=1), claim_of(name="other")):
        with pytest.raises(TrainingError, match="another recipe or on other data"):
            other.check(tmp_path)


def test_a_claim_says_all_that_the_first_shape_says(tmp_path: Path) -> None:
    claim_of().save(tmp_path)
    written, first = json.loads((tmp_path / "run.json").read_text()), json.loads(FIRST_SHAPE)
    assert first["wire"].items() <= written["wire"].items()
    assert {**written, "wire": None} == {**first, "wire": None}


def test_a_run_of_the_first_shape_is_resumed(folders: tuple[Path, Path], tmp_path: Path) -> None:
    from audit_lit.training.run import train

    recipe = small_recipe(folders, examples=8)
    train(recipe, folders[1], tmp_path)
    first = json.loads((tmp_path / "run.json").read_text())
    for added in ("section_separator", "placeholder_separator", "answer_end"):
        del first["wire"][added]
    (tmp_path / "run.json").write_text(json.dumps(first, indent=2))
    before = losses(tmp_path)
    train(recipe, folders[1], tmp_path)
    assert losses(tmp_path) == before  # there was nothing left to train
    assert json.loads((tmp_path / "run.json").read_text()) == first


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"data": "x", "examples_in_all": 1, "name": "x"}'])
def test_a_malformed_claim_is_refused(tmp_path: Path, content: str) -> None:
    from audit_lit.errors import TrainingError
    from audit_lit.training.checkpoint import Claim

    (tmp_path / "run.json").write_text(content)
    with pytest.raises(TrainingError, match=r"run.json could not be read"):
        Claim.load(tmp_path)

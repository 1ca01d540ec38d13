"""Training in two processes: the same run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from helpers.processes import launched
from helpers.training import losses, small_recipe

pytestmark = pytest.mark.usefixtures("unmeasured")


@pytest.mark.slow
def test_two_processes_train_like_one(folders: tuple[Path, Path], tmp_path: Path) -> None:
    from audit_lit.training.run import train

    lora = small_recipe(folders).lora.model_copy(update={"lora_dropout": 0.0})
    recipe = small_recipe(folders, lora=lora, precision="fp32", rival=8)
    train(recipe, folders[1], tmp_path / "one")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(json.loads(recipe.model_dump_json())))
    command = ["train", str(tmp_path / "recipe.yaml"), "--data", str(folders[1]), "--out", str(tmp_path / "two")]
    done = launched(command, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count(str(tmp_path / "two" / "decoder")) == 2  # each says where the decoder is
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=0.05)
    assert losses(tmp_path / "two" / "rival") == pytest.approx(losses(tmp_path / "one" / "rival"), abs=0.05)
    assert (tmp_path / "two" / "decoder" / "README.md").is_file()

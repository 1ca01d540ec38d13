"""Training in parts, in several processes, and under a tracker: the same run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers.support import ROOT, losses, small_recipe

pytestmark = pytest.mark.usefixtures("unmeasured")


def test_accumulated_parts_train_like_whole_steps(folders: tuple[Path, Path], tmp_path: Path) -> None:
    from audit_lit.training.run import train

    plain = {"lora": small_recipe(folders).lora.model_copy(update={"lora_dropout": 0.0}), "precision": "fp32"}
    for name, parts in (("whole", 1), ("parts", 4)):
        train(small_recipe(folders, accumulate=parts, **plain), folders[1], tmp_path / name)
    # A step's loss is the mean over its parts' tokens, whose number differs a little.
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), abs=0.05)
    assert losses(tmp_path / "whole")[0] > losses(tmp_path / "whole")[-1]


def launched(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command in two processes."""
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--module"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run([*launch, "audit_lit", *command], env=environment, cwd=cwd, capture_output=True, text=True)


def test_two_processes_audit_like_one(target: Any, make_decoder: Any, tiny_folder: Path, tmp_path: Path) -> None:
    from audit_lit import Auditor, Decoder
    from audit_lit.scan.engine import CHUNK

    make_decoder().save(tmp_path / "decoder")
    dialogs = [[{"role": "user", "content": f"Hello number {index}."}] for index in range(CHUNK + 3)]
    (tmp_path / "dialogs.jsonl").write_text("".join(json.dumps(dialog) + "\n" for dialog in dialogs))
    fast = {"samples": 1, "max_new_tokens": 4, "twins": 2, "min_lift": 0.1}
    command = ["scan", str(tiny_folder), "--decoder", str(tmp_path / "decoder"), "--recipe", "persona", "--json"]
    command += [part for key, value in fast.items() for part in ("--set", f"{key}={value}")]
    done = launched([*command, "--dialogs", str(tmp_path / "dialogs.jsonl"), "--out", str(tmp_path / "two")], tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    decoder = Decoder.from_pretrained(str(tmp_path / "decoder"), target=target)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as those two have: how many there are decides how a product rounds
    one = Auditor(target, decoder).scan(dialogs, "persona", **fast)
    torch.set_num_threads(threads)
    two = json.loads(done.stdout)
    assert two["findings"] == json.loads(one.to_json())["findings"]
    assert [len(path.read_text().splitlines()) for path in sorted((tmp_path / "two").glob("records-*"))] == [CHUNK, 3]


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


def test_a_tracker_gets_what_the_log_gets(folders: tuple[Path, Path], tmp_path: Path, monkeypatch: Any) -> None:
    from accelerate import tracking
    from accelerate.utils import LoggerType

    from audit_lit.errors import RecipeError
    from audit_lit.training.run import train

    seen: list[Any] = []

    class Recorder(tracking.GeneralTracker):
        name, requires_logging_directory, main_process_only = "wandb", False, True
        tracker = None

        def __init__(self, run_name: str) -> None:
            super().__init__()
            seen.append(run_name)

        def start(self) -> None: ...

        def store_init_configuration(self, values: dict[str, Any]) -> None:
            seen.append(values)

        def log(self, values: dict[str, Any], step: int | None = None) -> None:
            seen.append((step, values))

        def finish(self) -> None:
            seen.append("end")

    monkeypatch.setattr(tracking, "get_available_trackers", lambda: [LoggerType.WANDB])
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "wandb", Recorder)
    recipe = small_recipe(folders, examples=20)
    train(recipe, folders[1], tmp_path / "run", tracker="wandb")
    project, settings, *logged, end = seen
    assert (project, settings["lora.r"], settings["lr"], end) == ("audit-lit", 16, recipe.lr, "end")
    assert [step for step, _ in logged] == [1, 2, 3, 4, 5]
    assert [values["loss"] for _, values in logged] == losses(tmp_path / "run")
    assert logged[-1][1]["gap_label.gap"] == pytest.approx(
        json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])["gap_label"]["gap"]
    )
    with pytest.raises(RecipeError, match=r"'trackio' is not installed.*pip install trackio"):
        train(recipe, folders[1], tmp_path / "other", tracker="trackio")

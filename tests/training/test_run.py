"""Training: recipes, one real loop, exact resume, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.support import RECIPE, losses, small_recipe

pytestmark = pytest.mark.usefixtures("unmeasured")


def test_latentqa_layout(tmp_path: Path) -> None:
    from audit_lit.data.rows import load_rows
    from audit_lit.errors import RecipeError

    def write(name: str, content: Any) -> None:
        (tmp_path / name).write_text(json.dumps(content))

    with pytest.raises(RecipeError, match="LatentQA's layout"):
        load_rows(tmp_path)
    write("system.json", [{"system": "S.", "stimulus_user": "u", "label": "goal-a-b"}])
    write(
        "stimulus_completion.json",
        [{"control_user": "c", "control_model": "m", "stimulus_user": "u", "stimulus_model": "v", "label": "goal-x"}],
    )
    write("control.json", [{"control_user": "c", "label": "goal-y"}])
    write("qa.json", {"goal-x": [["q", "a"]]})
    system, completion, control = load_rows(tmp_path)
    assert system.label_words == "goal: a b" and system.system == "S." and not system.qa
    assert [bool(m.get("hidden")) for m in completion.messages] == [True, True, False, False]
    assert completion.qa == (("q", "a"),) and not control.messages[0]["hidden"]
    write("system.json", [{"system": "S."}])
    with pytest.raises(RecipeError, match=r"system.json\[0\] is malformed"):
        load_rows(tmp_path)
    (tmp_path / "qa.json").write_text("{")
    with pytest.raises(RecipeError, match=r"qa.json could not be read"):
        load_rows(tmp_path)


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


def test_killed_run_resumes_exactly(folders: tuple[Path, Path], tmp_path: Path) -> None:
    from audit_lit.training.run import train
    from audit_lit.training.trainer import Trainer

    recipe = small_recipe(folders, precision="fp32")
    whole = train(recipe, folders[1], tmp_path / "whole")
    step = Trainer.train_step

    def killed(self: Any, *batch: Any) -> Any:
        if self.step == 7:
            raise KeyboardInterrupt  # after the checkpoint of step 6
        return step(self, *batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_step", killed)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, folders[1], tmp_path / "killed")
    resumed = train(recipe, folders[1], tmp_path / "killed")
    logs = [
        [json.loads(line) for line in (folder.parent / "log.jsonl").read_text().splitlines()]
        for folder in (whole, resumed)
    ]
    assert [record["step"] for record in logs[1]] == list(range(1, 11))
    for one, other in zip(*logs, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], abs=1e-6) and other["lr"] == one["lr"]
        assert one.get("gap_label") == other.get("gap_label")
    for name in ("adapter_model.safetensors", "projection.safetensors"):
        assert (whole / name).read_bytes() == (resumed / name).read_bytes()


def test_run_folder_of_another_recipe_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    from audit_lit.errors import RecipeError
    from audit_lit.training.run import train

    train(small_recipe(folders, examples=4), folders[1], tmp_path)
    with pytest.raises(RecipeError, match="another recipe"):
        train(small_recipe(folders, examples=8), folders[1], tmp_path)


def test_run_folder_of_other_data_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    import shutil

    from audit_lit.errors import RecipeError
    from audit_lit.training.run import train

    data, recipe = shutil.copytree(folders[1], tmp_path / "data"), small_recipe(folders, examples=4)
    train(recipe, data, tmp_path / "run")
    qa = json.loads((data / "train" / "qa.json").read_text())
    (data / "train" / "qa.json").write_text(json.dumps(dict(list(qa.items())[:3])))
    with pytest.raises(RecipeError, match="on other data"):
        train(recipe, data, tmp_path / "run")
    (data / "dev" / "system.json").write_text("[]")
    with pytest.raises(RecipeError, match=r"dev split has 0 hidden system prompts.*4 or more"):
        train(recipe, data, tmp_path / "run")


def test_a_log_line_cut_short_does_not_stop_a_resume(folders: tuple[Path, Path], tmp_path: Path) -> None:
    from audit_lit.training.run import train

    train(small_recipe(folders, examples=8), folders[1], tmp_path)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    train(small_recipe(folders, examples=8), folders[1], tmp_path)
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [1, 2]


def test_average_is_exponential_and_is_what_is_saved(folders: tuple[Path, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from audit_lit.training.run import train
    from audit_lit.training.trainer import Trainer

    seen: list[torch.Tensor] = []
    update = Trainer._update_average

    def watched(self: Any) -> None:
        update(self)
        seen.append(self.parameters["write.weight"].detach().clone())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_update_average", watched)
        folder = train(small_recipe(folders, average=0.5, precision="fp32"), folders[1], tmp_path)
    expected = torch.eye(32).reshape(seen[0].shape)
    for step, value in enumerate(seen, start=1):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    saved = load_file(folder / "projection.safetensors")["weight"]
    torch.testing.assert_close(saved, expected)
    assert not torch.allclose(saved, seen[-1])


def test_a_rival_is_trained_on_text_and_comes_with_the_decoder(folders: tuple[Path, Path], tmp_path: Path) -> None:
    from audit_lit import Auditor, Decoder, DecoderMismatch
    from audit_lit.decoder.text_baseline import TextBaseline
    from audit_lit.models.loading import load_target
    from audit_lit.training.run import train

    target = load_target(str(folders[0]))
    folder = train(small_recipe(folders, rival=120, lr=0.01, warmup=2), folders[1], tmp_path, target=target)
    found = losses(tmp_path / "rival")
    assert len(found) == 30 and np.mean(found[-5:]) < np.mean(found[:5]) - 0.1
    decoder = Decoder.from_pretrained(str(folder), target=target)
    assert decoder.rival and decoder.rival.config.reads == "text" and decoder.rival.config.examples == 120
    question, dialog = "Who?", [{"role": "user", "content": "Hello number 1."}]
    answer = Auditor(target, decoder).ask(dialog, question, samples=0, max_new_tokens=4)
    text = "user: Hello number 1."
    scored = [
        TextBaseline(one).logprob([text], [question], [answer.text])[0].mean() for one in (decoder, decoder.rival)
    ]
    assert answer.controls["text_trained"] == pytest.approx(float(scored[1]), abs=1e-4)
    assert abs(float(scored[0] - scored[1])) > 1e-3  # so the control is the rival's, not the decoder's
    with pytest.raises(DecoderMismatch, match="trained to read text"):
        Auditor(target, decoder.rival).ask(dialog, question)
    decoder.save(tmp_path / "again")
    assert (tmp_path / "again" / "rival" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize(
    ("write", "precision"), [("project", "bf16"), ("project", "fp32"), ("replace", "fp32"), ("add", "fp32")]
)
def test_training_lowers_the_loss(folders: tuple[Path, Path], tmp_path: Path, write: str, precision: str) -> None:
    from audit_lit.decoder.decoder import Decoder
    from audit_lit.models.loading import load_target
    from audit_lit.training.run import train

    base = small_recipe(folders)
    recipe = base.model_copy(
        update={
            "examples": 160,
            "lr": 3e-3,
            "precision": precision,
            "wire": base.wire.model_copy(update={"write": write}),
        }
    )
    target = load_target(str(folders[0]))
    folder = train(recipe, folders[1], tmp_path, target=target)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert np.mean(losses[-8:]) < np.mean(losses[:8]) - 0.2
    loaded = Decoder.from_pretrained(str(folder), target=target)
    assert loaded.config.write == write and loaded.config.target_fingerprint == target.fingerprint()


def test_gap_is_zero_for_equal_activations_and_positive_when_read(target: Any, make_decoder: Any) -> None:
    from audit_lit.data.rows import Example
    from audit_lit.evaluation.gap import measure_gap

    dialog = ({"role": "system", "content": "Be x."}, {"role": "user", "content": "Hi"})
    same = [Example(dialog, "Who?", answer, "l") for answer in ("a", "b", "c")]
    gap = measure_gap(make_decoder(), target, same)
    assert gap.gap == pytest.approx(0.0, abs=1e-5) and gap.true != pytest.approx(gap.no_activation, abs=1e-4)


def test_auto_precision_is_decided_by_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    from audit_lit.training import trainer

    cpu = torch.device("cpu")
    assert trainer.use_bf16("bf16", cpu) and not trainer.use_bf16("fp32", cpu)
    real = torch.nn.functional.linear

    def slow_in(dtype: torch.dtype) -> Any:
        def linear(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
            for _ in range(50 if left.dtype == dtype else 1):
                out = real(left, right)
            return out

        return linear

    for dtype, expected in ((torch.bfloat16, False), (torch.float32, True)):
        monkeypatch.setattr(trainer.nn.functional, "linear", slow_in(dtype))
        assert trainer.use_bf16("auto", cpu) is expected


def test_a_run_can_start_from_a_decoder(folders: tuple[Path, Path], tmp_path: Path) -> None:
    from audit_lit.data.splits import load_split
    from audit_lit.errors import RecipeError
    from audit_lit.models.loading import load_target
    from audit_lit.training.run import new_decoder, train

    target, rows = load_target(str(folders[0])), load_split([folders[1]], "train")
    start = train(small_recipe(folders, examples=8), folders[1], tmp_path / "start", target=target)
    recipe = small_recipe(folders, start=str(start))
    fresh, continued = (new_decoder(one, target, rows, "") for one in (small_recipe(folders), recipe))
    saved = new_decoder(recipe.model_copy(update={"start": str(start)}), target, rows, "")
    for name, parameter in continued.model.named_parameters():
        assert torch.equal(parameter, saved.model.get_parameter(name))
        if "lora_B" in name:
            assert parameter.requires_grad and not torch.equal(parameter, fresh.model.get_parameter(name))
    assert continued.config.examples == 48 and fresh.config.examples == 40
    other = recipe.model_copy(update={"wire": recipe.wire.model_copy(update={"n_edge": 2})})
    with pytest.raises(RecipeError, match=r"differs in n_edge.*leave out 'start'"):
        new_decoder(other, target, rows, "")
    with pytest.raises(RecipeError, match="differs in its LoRA"):
        new_decoder(recipe.model_copy(update={"lora": recipe.lora.model_copy(update={"r": 8})}), target, rows, "")


def test_the_reference_holds_different_hidden_prompts(folders: tuple[Path, Path], monkeypatch: Any) -> None:
    from audit_lit.data.splits import load_split
    from audit_lit.models.loading import load_target
    from audit_lit.training import run

    target, recipe, rows = load_target(str(folders[0])), small_recipe(folders), load_split([folders[1]], "train")
    config = run.protocol_of(recipe, target, "")
    read: list[Any] = []
    original = run.read_dialogs

    def watched(target: Any, config: Any, dialogs: Any) -> Any:
        read.extend(dialogs)
        return original(target, config, dialogs)

    monkeypatch.setattr(run, "read_dialogs", watched)
    found = run.reference(recipe, target, config, [*rows, *rows])
    assert len(found) == 6 and found.layers == (1,) and found.resid.dtype == torch.bfloat16
    assert len({dialog[0]["content"] for dialog in read}) == 6
    assert not any(dialog in [row.messages for row in rows] for dialog in read)  # re-paired
    monkeypatch.setattr(run, "N_REFERENCE", 3)
    assert len(run.reference(recipe, target, config, rows)) == 3

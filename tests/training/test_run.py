"""A whole run: what it starts from, the text baseline beside the decoder, the reference, and what is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.training import losses, small_recipe

pytestmark = pytest.mark.usefixtures("unmeasured")


def with_lora_of(decoder: Any) -> Any:
    """A reader of text with the decoder's own LoRA."""
    from audit_lit.decoder.text_baseline import TextBaseline

    return TextBaseline(decoder.model, decoder.tokenizer, decoder.config)


@pytest.mark.slow
def test_a_text_baseline_is_trained_on_text_and_comes_with_the_decoder(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    from audit_lit import Auditor, Decoder, DecoderMismatch
    from audit_lit.decoder.decoder import text_baselines
    from audit_lit.models.loading import load_target
    from audit_lit.training.run import train

    target = load_target(str(folders[0]))
    folder = train(small_recipe(folders, rival=120, lr=0.01, warmup=2), folders[1], tmp_path, target=target)
    logged = losses(tmp_path / "rival")
    assert len(logged) == 30 and np.mean(logged[-5:]) < np.mean(logged[:5]) - 0.1
    decoder = Decoder.from_pretrained(str(folder), target=target)
    baseline = decoder.text_baseline
    assert baseline and baseline.config.reads == "text" and baseline.config.examples == 120
    question, dialog = "Who?", [{"role": "user", "content": "Hello number 1."}]
    answer = Auditor(target, decoder).ask(dialog, question, samples=0, max_new_tokens=4)
    text = "user: Hello number 1."
    scored = {
        name: float(reader.logprob([text], [question], [answer.text])[0].mean())
        for name, reader in {"decoder": with_lora_of(decoder), **text_baselines(decoder)}.items()
    }
    assert answer.controls["text_trained"] == pytest.approx(scored["text_trained"], abs=1e-4)
    assert answer.controls["text_only"] == pytest.approx(scored["text_only"], abs=1e-4)
    assert abs(scored["decoder"] - scored["text_trained"]) > 1e-3  # so the control has the baseline's LoRA
    with pytest.raises(DecoderMismatch, match="trained to read text"):
        Decoder.from_pretrained(str(folder / "rival"), target=target)
    decoder.save(tmp_path / "again")
    assert (tmp_path / "again" / "rival" / "adapter_model.safetensors").is_file()


def test_the_reference_holds_different_hidden_prompts(folders: tuple[Path, Path], monkeypatch: Any) -> None:
    from audit_lit.data.splits import load_split
    from audit_lit.models.loading import load_target
    from audit_lit.training import run
    from audit_lit.training.run import config_of

    target, recipe, rows = load_target(str(folders[0])), small_recipe(folders), load_split([folders[1]], "train")
    config = config_of(recipe, target, "")
    read: list[Any] = []
    original = run.read_dialogs

    def watched(target: Any, config: Any, dialogs: Any) -> Any:
        read.extend(dialogs)
        return original(target, config, dialogs)

    monkeypatch.setattr(run, "read_dialogs", watched)
    reference = run.reference_activations(recipe, target, config, [*rows, *rows])
    assert len(reference) == 6 and reference.layers == (1,) and reference.resid.dtype == torch.bfloat16
    assert len({dialog[0]["content"] for dialog in read}) == 6
    assert not any(dialog in [row.messages for row in rows] for dialog in read)  # re-paired
    monkeypatch.setattr(run, "N_REFERENCE", 3)
    assert len(run.reference_activations(recipe, target, config, rows)) == 3


def test_what_was_measured_goes_into_the_configuration(config: Any) -> None:
    from audit_lit.training.run import calibrated

    results = {
        "null": {"threshold_of_first_half": 0.12345},
        "calibration": {"claim_scale": [0.123456, -0.5], "choice_scale": 0.98765},
    }
    found = calibrated(config, results)
    assert (found.lift_threshold, found.claim_scale, found.choice_scale) == (0.123, (0.1235, -0.5), 0.9877)
    assert found.model_copy(update=dict.fromkeys(("lift_threshold", "claim_scale", "choice_scale"))) == config


def test_a_run_can_start_from_a_decoder(folders: tuple[Path, Path], tmp_path: Path) -> None:
    from audit_lit.data.splits import load_split
    from audit_lit.errors import TrainingError
    from audit_lit.models.loading import load_target
    from audit_lit.training.run import new_decoder, train

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
    from audit_lit.training.run import new_text_baseline

    target = replace(load_target(str(folders[0])), base=None)
    with pytest.raises(TrainingError, match="load it with load_target"):
        new_text_baseline(small_recipe(folders).for_text_baseline(), target, "")


def test_figures_belong_to_weights_and_data_not_to_bytes_of_a_file(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from audit_lit.data.rows import Row
    from audit_lit.training.run import weights_and_data_digest

    row = Row("label", ({"role": "user", "content": "Hi."},), ())
    tensors = {"a": torch.tensor(1.0), "b": torch.ones(2, 3, dtype=torch.bfloat16)}
    digests = []
    for name, written, note in [("x", tensors, "1"), ("y", tensors, "2"), ("z", tensors | {"a": torch.zeros(())}, "1")]:
        (tmp_path / name).mkdir()
        save_file(written, tmp_path / name / "adapter.safetensors", metadata={"note": note})
        digests.append(weights_and_data_digest(tmp_path / name, [row]))
    assert digests[0] == digests[1] != digests[2]
    assert weights_and_data_digest(tmp_path / "x", [row, row]) != digests[0]

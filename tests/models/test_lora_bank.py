"""Banks of LoRAs: each acts on its share of the rows as PEFT's would alone, and leaves the model as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.architectures import tiny_model, write_model
from helpers.models import byte_tokenizer, tiny_llama
from safetensors.torch import save_file

from audit_lit.errors import TargetError
from audit_lit.files.writing import dump_json
from audit_lit.models.adapters import SETTINGS, WEIGHTS, load_lora
from audit_lit.models.loading import boot_bridge
from audit_lit.models.lora_bank import LoraBank, from_peft, peft_files

RANKS = (1, 4, 2)


def drawn(model: Any, ranks: tuple[int, ...] = RANKS) -> LoraBank:
    """A bank whose LoRAs change something."""
    bank = LoraBank.new(model, ranks, seeds=range(len(ranks)))
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for up in bank.up.values():
            for row, rank in enumerate(ranks):
                up[row, :, :rank] = 0.1 * torch.randn(up.shape[1], rank, generator=generator)
    return bank


def logits(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(tokens).logits


def saved(bank: LoraBank, row: int, model: Any, folder: Path) -> Path:
    settings, tensors = peft_files(bank.alone(row), model, "tiny", RANKS[row])
    folder.mkdir()
    (folder / SETTINGS).write_text(dump_json(settings), encoding="utf-8")
    save_file(tensors, folder / WEIGHTS)
    return folder


def test_each_share_of_the_rows_runs_as_with_its_lora_by_peft_alone(tmp_path: Path) -> None:
    from peft import PeftModel

    model, tokens = tiny_llama(), torch.arange(48).view(6, 8) + 3
    bank = drawn(model)
    with bank.on(model):
        together = logits(model, tokens)
    for row in range(3):
        adapted = PeftModel.from_pretrained(tiny_llama(), str(saved(bank, row, model, tmp_path / str(row))))
        expected = logits(adapted, tokens[2 * row : 2 * row + 2])
        torch.testing.assert_close(together[2 * row : 2 * row + 2], expected, atol=1e-5, rtol=1e-4)


def test_a_new_bank_changes_nothing_and_nothing_stays_on_the_model() -> None:
    model, tokens = tiny_llama(), torch.arange(12).view(3, 4) + 3
    before = logits(model, tokens)
    with LoraBank.new(model, RANKS, seeds=(0, 1, 2)).on(model):
        torch.testing.assert_close(logits(model, tokens), before)
    with drawn(model).on(model):
        assert not torch.allclose(logits(model, tokens), before)
    torch.testing.assert_close(logits(model, tokens), before, atol=0, rtol=0)


def test_a_lora_of_a_lower_rank_stays_of_that_rank_in_training() -> None:
    model, tokens = tiny_llama().requires_grad_(False), torch.arange(12).view(3, 4) + 3
    bank = drawn(model)
    optimizer = torch.optim.AdamW(bank.parameters(), lr=0.1, weight_decay=0.0)
    with bank.on(model):
        model(tokens).logits.square().mean().backward()
    optimizer.step()
    for name, down in bank.down.items():
        assert not down[0, 1:].any() and not bank.up[name][0, :, 1:].any()
        assert down[1, 3:].any()


def test_a_bank_read_from_peft_files_is_the_one_that_was_written(tmp_path: Path) -> None:
    model, tokens = tiny_llama(), torch.arange(8).view(2, 4) + 3
    bank = drawn(model)
    read = load_lora(saved(bank, 1, model, tmp_path / "lora"))
    with bank.alone(1).on(model):
        expected = logits(model, tokens)
    with read.on(model):
        torch.testing.assert_close(logits(model, tokens), expected)


def test_a_bank_acts_on_the_model_inside_a_bridge_too(tmp_path: Path) -> None:
    model, tokens = tiny_llama(), torch.arange(8).view(2, 4) + 3
    model.save_pretrained(tmp_path)
    bridge = boot_bridge(model, tmp_path, byte_tokenizer())
    bank = drawn(model).alone(1)
    with bank.on(model):
        expected = logits(model, tokens)
    with bank.on(bridge.original_model), torch.no_grad():
        torch.testing.assert_close(bridge(tokens), expected, atol=1e-4, rtol=1e-4)


def test_a_lora_for_another_model_is_refused() -> None:
    with (
        pytest.raises(TargetError, match=r"the LoRA has '0\.self_attn\.q_proj' of shape .*Load its own base"),
        drawn(tiny_llama(d_model=16)).on(tiny_llama()),
    ):
        pass


@pytest.mark.parametrize(
    ("architecture", "layer", "acts"),
    [
        ("qwen2", "q_proj", True),
        ("phi3", "qkv_proj", False),
        ("phi3", "gate_up_proj", False),
        ("phi3", "down_proj", True),
        ("gpt_neox", "query_key_value", False),
    ],
)
def test_a_lora_on_shared_weights_acts_or_is_refused(tmp_path: Path, architecture: str, layer: str, acts: bool) -> None:
    from peft import LoraConfig, get_peft_model

    from audit_lit import load_target

    target = load_target(write_model(architecture, tmp_path / "model"))
    settings = LoraConfig(r=2, target_modules=[layer], init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(tiny_model(architecture), settings).save_pretrained(tmp_path / "lora")
    if not acts:
        with pytest.raises(TargetError, match=rf"{layer}', which the base has as well.*Merge it: load_target\(BASE"):
            load_target(target, adapter=tmp_path / "lora")
        return
    tokens = torch.arange(3, 12)[None]
    merged = load_target(tmp_path / "model", adapter=tmp_path / "lora")
    with torch.no_grad():
        shared, plain, expected = (
            model.model(tokens) for model in (load_target(target, adapter=tmp_path / "lora"), target, merged)
        )
    torch.testing.assert_close(shared, expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(shared, plain, atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"),
        ({"peft_type": "IA3"}, "no complete LoRA"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights"),
        ({"r": 16}, "mlp|self_attn"),
        ({"lora_alpha": None}, "lora_alpha=None"),
    ],
)
def test_what_two_matrices_do_not_cover_is_refused(settings: dict[str, Any], name: str) -> None:
    model = tiny_llama()
    plain, tensors = peft_files(drawn(model).alone(0), model, "tiny", 1)
    with pytest.raises(TargetError, match=f"{name}.*cannot be switched on and off"):
        from_peft({**plain, **settings}, tensors)


def test_a_tensor_without_its_partner_is_refused() -> None:
    model = tiny_llama()
    plain, tensors = peft_files(drawn(model).alone(0), model, "tiny", 1)
    with pytest.raises(TargetError, match="cannot be switched on and off"):
        from_peft(plain, dict(list(tensors.items())[:-1]))
    with pytest.raises(TargetError, match=r"lm_head\.weight"):
        from_peft(plain, {**tensors, "base_model.model.lm_head.weight": torch.ones(1)})

"""The lean LoRA forward equals peft's, and steps aside where it would not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.models import tiny_llama


def lora_model(**settings: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(2)
    config = LoraConfig(r=4, lora_alpha=12, target_modules=["q_proj", "down_proj"], init_lora_weights=False, **settings)
    return get_peft_model(tiny_llama(), config)


def n_lean(model: Any) -> int:
    return sum("forward" in vars(module) for name, module in model.named_modules() if name.endswith("_proj"))


def test_equals_peft_in_value_and_gradient() -> None:
    from audit_lit.models.speedups.lora import use_fast_lora

    model, embeds = lora_model().eval(), torch.randn(2, 5, 32, requires_grad=True)
    expected = model(inputs_embeds=embeds).logits
    (expected_grad,) = torch.autograd.grad(expected.square().mean(), embeds)
    use_fast_lora(model)
    assert n_lean(model) == 8
    found = model(inputs_embeds=embeds).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        torch.autograd.grad(found.square().mean(), embeds)[0], expected_grad, atol=1e-5, rtol=1e-3
    )


def test_disabled_adapter_is_the_base() -> None:
    from audit_lit.models.speedups.lora import use_fast_lora

    model, tokens = lora_model().eval(), torch.arange(6)[None]
    use_fast_lora(model)
    with model.disable_adapter():
        torch.testing.assert_close(model(tokens).logits, tiny_llama()(tokens).logits)
    assert not torch.allclose(model(tokens).logits, tiny_llama()(tokens).logits)


def test_bfloat16_base() -> None:
    from audit_lit.models.speedups.lora import use_fast_lora

    model, tokens = lora_model().eval(), torch.arange(6)[None]
    for name, parameter in model.named_parameters():
        if "lora_" not in name:
            parameter.data = parameter.data.bfloat16()
    expected = model(tokens).logits
    use_fast_lora(model)
    found = model(tokens).logits
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"lora_bias": True}])
def test_other_variants_keep_their_own_forward(settings: dict[str, Any]) -> None:
    from audit_lit.models.speedups.lora import use_fast_lora

    model = lora_model(**settings).eval()
    use_fast_lora(model)
    assert n_lean(model) == 0

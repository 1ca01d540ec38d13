"""The speed-ups: the faster products equal torch's and peft's, and are left out where they would not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import tiny_llama

from audit_lit import Decoder, load_target
from audit_lit.answers.session import Session
from audit_lit.models import speedups
from audit_lit.models.speedups import ONEDNN, linear, use_fast_linear, use_fast_lora


def test_products_differ_in_rounding_alone_and_keep_gradients() -> None:
    x, weight, bias = torch.randn(3, 5, 40), torch.randn(24, 40, requires_grad=True), torch.randn(24)
    expected = torch.nn.functional.linear(x, weight, bias)
    (grad,) = torch.autograd.grad(linear(x, weight, bias).sum(), weight)
    torch.testing.assert_close(grad, x.sum((0, 1)).expand(24, -1))
    with torch.no_grad():
        for given in (bias, None):
            found = linear(x, weight, given)
            torch.testing.assert_close(found, expected - (0 if given is bias else bias), rtol=1e-5, atol=1e-4)


def test_autocast_decides_the_type() -> None:
    x, weight = torch.randn(3, 40), torch.randn(24, 40)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight, None).dtype is torch.bfloat16
    assert linear(x.bfloat16(), weight.bfloat16(), None).dtype is torch.bfloat16


def test_an_operator_that_torch_has_changed_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(*_: object) -> torch.Tensor:
        raise RuntimeError("unknown arguments")

    monkeypatch.setattr(speedups, "_product", changed)
    assert not speedups._works()


def test_a_model_computes_the_same_with_it() -> None:
    model, tokens = tiny_llama().eval(), torch.arange(6)[None]
    plain = model(tokens).logits
    use_fast_linear(model)
    torch.testing.assert_close(model(tokens).logits, plain, rtol=0, atol=0)  # a graph is kept, so it is torch's
    with torch.no_grad():
        torch.testing.assert_close(model(tokens).logits, plain, rtol=1e-4, atol=1e-4)
    assert all("forward" in vars(one) for one in model.modules() if type(one) is torch.nn.Linear)


def test_the_fast_product_is_in_use_wherever_it_should_be() -> None:
    capability, has_onednn = torch.backends.cpu.get_cpu_capability(), torch.backends.mkldnn.is_available()
    assert (capability == "AVX512" and has_onednn) == ONEDNN, (
        f"torch {torch.__version__} ({capability}, oneDNN {has_onednn}) and the fast path (ONEDNN={ONEDNN}) disagree: "
        "torch.ops.mkldnn._linear_pointwise has changed, and models are slow without it. Adapt speedups.py."
    )


def test_a_gradient_of_the_bias_alone_is_kept() -> None:
    bias = torch.zeros(24, requires_grad=True)
    (grad,) = torch.autograd.grad(linear(torch.randn(3, 40), torch.randn(24, 40), bias).sum(), bias)
    torch.testing.assert_close(grad, torch.full((24,), 3.0))


@pytest.mark.parametrize("shape", [(40,), (1, 40), (2, 3, 40), (0, 40), (2, 0, 40)])
def test_inputs_of_any_shape(shape: tuple[int, ...]) -> None:
    x, weight = torch.randn(shape), torch.randn(24, 40)
    with torch.no_grad():
        torch.testing.assert_close(linear(x, weight, None), torch.nn.functional.linear(x, weight), rtol=1e-5, atol=1e-4)
        transposed = torch.randn(40, 5).T
        torch.testing.assert_close(
            linear(transposed, weight, None), torch.nn.functional.linear(transposed, weight), rtol=1e-5, atol=1e-4
        )


def lora_model(**settings: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(2)
    config = LoraConfig(r=4, lora_alpha=12, target_modules=["q_proj", "down_proj"], init_lora_weights=False, **settings)
    return get_peft_model(tiny_llama(), config)


def n_fast(model: Any) -> int:
    return sum("forward" in vars(module) for name, module in model.named_modules() if name.endswith("_proj"))


def test_equals_peft_in_value_and_gradient() -> None:
    model, embeds = lora_model().eval(), torch.randn(2, 5, 32, requires_grad=True)
    expected = model(inputs_embeds=embeds).logits
    (expected_grad,) = torch.autograd.grad(expected.square().mean(), embeds)
    use_fast_lora(model)
    assert n_fast(model) == 8
    found = model(inputs_embeds=embeds).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        torch.autograd.grad(found.square().mean(), embeds)[0], expected_grad, atol=1e-5, rtol=1e-3
    )


def test_disabled_adapter_is_the_base() -> None:
    model, tokens = lora_model().eval(), torch.arange(6)[None]
    use_fast_lora(model)
    with model.disable_adapter():
        torch.testing.assert_close(model(tokens).logits, tiny_llama()(tokens).logits)
    assert not torch.allclose(model(tokens).logits, tiny_llama()(tokens).logits)


def test_bfloat16_base() -> None:
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
    model = lora_model(**settings).eval()
    use_fast_lora(model)
    assert n_fast(model) == 0


def own_forwards(model: Any) -> int:
    """The number of modules whose forward is not that of their class."""
    return sum("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize(
    ("value", "expected"), [(None, True), ("", True), ("on", True), ("1", True), ("off", False), ("0", False)]
)
def test_only_off_and_0_switch_them_off(monkeypatch: pytest.MonkeyPatch, value: str | None, expected: bool) -> None:
    monkeypatch.delenv("AUDIT_LIT_SPEEDUPS", raising=False)
    if value is not None:
        monkeypatch.setenv("AUDIT_LIT_SPEEDUPS", value)
    assert speedups.are_on() is expected


@pytest.mark.parametrize("value", ["off", "OFF", "0"])
def test_off_leaves_every_forward_alone(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    from peft import LoraConfig, get_peft_model

    def lora_model() -> Any:
        config = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
        return get_peft_model(tiny_llama(), config).eval()

    monkeypatch.setenv("AUDIT_LIT_SPEEDUPS", value)
    plain = lora_model()
    use_fast_lora(plain)
    use_fast_linear(plain)
    assert own_forwards(plain) == 0
    monkeypatch.delenv("AUDIT_LIT_SPEEDUPS")
    fast = lora_model()
    use_fast_lora(fast)
    use_fast_linear(fast)
    assert own_forwards(fast) > 0


def test_a_decoder_answers_the_same_without_them(
    monkeypatch: pytest.MonkeyPatch, make_decoder: Any, tiny_folder: Path, tmp_path: Path, dialog: Any
) -> None:
    make_decoder().save(tmp_path)
    texts, scores = [], []
    for value in ("on", "off"):
        monkeypatch.setenv("AUDIT_LIT_SPEEDUPS", value)
        target = load_target(str(tiny_folder))
        decoder = Decoder.from_pretrained(str(tmp_path), target=target)
        assert (own_forwards(decoder.model) > 0) == (value == "on")
        with torch.no_grad():
            activations = Session.of(target, decoder).read(dialog).activations
            texts.append(decoder.answer(activations, ["Who is it?"], max_new_tokens=8, temperature=1.0))
            scores.append(decoder.logprob(activations, ["Who is it?"], ["A pirate."])[0])
    assert texts[0] == texts[1]
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-4, atol=1e-4)


def test_auto_precision_is_decided_by_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    from audit_lit.models import speedups

    cpu = torch.device("cpu")
    assert speedups.use_bf16("bf16", cpu) and not speedups.use_bf16("fp32", cpu)
    real = torch.nn.functional.linear

    def slow_in(dtype: torch.dtype) -> Any:
        def linear(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
            for _ in range(50 if left.dtype == dtype else 1):
                out = real(left, right)
            return out

        return linear

    for dtype, expected in ((torch.bfloat16, False), (torch.float32, True)):
        monkeypatch.setattr(speedups.nn.functional, "linear", slow_in(dtype))
        assert speedups.use_bf16("auto", cpu) is expected

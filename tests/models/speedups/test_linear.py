"""The faster product equals torch's, gradients included."""

from __future__ import annotations

import pytest
import torch
from helpers.models import tiny_llama


def test_products_differ_in_rounding_alone_and_keep_gradients() -> None:
    from audit_lit.models.speedups.linear import linear

    x, weight, bias = torch.randn(3, 5, 40), torch.randn(24, 40, requires_grad=True), torch.randn(24)
    expected = torch.nn.functional.linear(x, weight, bias)
    (grad,) = torch.autograd.grad(linear(x, weight, bias).sum(), weight)
    torch.testing.assert_close(grad, x.sum((0, 1)).expand(24, -1))
    with torch.no_grad():
        for given in (bias, None):
            found = linear(x, weight, given)
            torch.testing.assert_close(found, expected - (0 if given is bias else bias), rtol=1e-5, atol=1e-4)


def test_autocast_decides_the_type() -> None:
    from audit_lit.models.speedups.linear import linear

    x, weight = torch.randn(3, 40), torch.randn(24, 40)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight, None).dtype is torch.bfloat16
    assert linear(x.bfloat16(), weight.bfloat16(), None).dtype is torch.bfloat16


def test_an_operator_that_torch_has_changed_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from audit_lit.models.speedups import linear as module

    def changed(*_: object) -> torch.Tensor:
        raise RuntimeError("unknown arguments")

    monkeypatch.setattr(module, "_product", changed)
    assert not module._works()


def test_a_model_computes_the_same_with_it() -> None:
    from audit_lit.models.speedups.linear import use_fast_linear

    model, tokens = tiny_llama().eval(), torch.arange(6)[None]
    plain = model(tokens).logits
    use_fast_linear(model)
    torch.testing.assert_close(model(tokens).logits, plain, rtol=0, atol=0)  # a graph is kept, so it is torch's
    with torch.no_grad():
        torch.testing.assert_close(model(tokens).logits, plain, rtol=1e-4, atol=1e-4)
    assert all("forward" in vars(one) for one in model.modules() if type(one) is torch.nn.Linear)

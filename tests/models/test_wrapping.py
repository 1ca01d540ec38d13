"""Whatever a caller passes for a model becomes a target, or an error that says what to do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.models import byte_tokenizer, make_config, tiny_llama

from audit_lit import Auditor, Decoder
from audit_lit.errors import DecoderMismatch, TargetError
from audit_lit.hooks import is_hooked
from audit_lit.models.wrapping import as_target

TOKENS = torch.arange(3, 20)[None]


def adapted(base: Any) -> Any:
    """A model that PEFT has wrapped, with a LoRA whose effect is not zero."""
    from peft import LoraConfig, get_peft_model

    return get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)).eval()


def test_a_target_stays_itself_and_a_bridge_is_taken_as_it_is(target: Any) -> None:
    tokenizer = byte_tokenizer()
    assert as_target(target, tokenizer, "other") is target
    bare = as_target(target.model, tokenizer, "other")
    assert bare.model is target.model and bare.tokenizer is tokenizer
    assert bare.name == (target.model.cfg.model_name or "other")


@torch.no_grad()
@pytest.mark.parametrize("wrap", [lambda model: model, adapted], ids=["plain", "peft"])
def test_a_hugging_face_model_is_bridged_on_its_own_weights(wrap: Any) -> None:
    model = wrap(tiny_llama())
    wrapped = as_target(model, byte_tokenizer(), "tiny")
    ones = torch.ones_like(TOKENS)
    torch.testing.assert_close(wrapped.model(TOKENS, attention_mask=ones), model(TOKENS).logits, rtol=1e-4, atol=1e-4)
    pointers = {value.data_ptr() for value in model.parameters()}
    assert {value.data_ptr() for value in wrapped.model.original_model.parameters()} <= pointers
    assert wrapped.base is (None if wrap is adapted else model)  # a decoder must not run on adapted weights


def test_an_adapted_model_has_a_name_of_its_own() -> None:
    assert as_target(adapted(tiny_llama()), byte_tokenizer(), "tiny").name == "tiny + adapter"


def test_a_model_without_a_name_does_not_take_that_of_the_decoders_target(make_decoder: Any) -> None:
    model = tiny_llama()
    assert not model.name_or_path
    for plain in (model, adapted(tiny_llama())):
        assert Auditor(plain, make_decoder()).target.name.startswith("unnamed")


def test_a_compiled_bridge_is_unwrapped(target: Any) -> None:
    assert as_target(torch.compile(target.model), byte_tokenizer(), "tiny").model is target.model


def test_a_plain_model_can_be_audited(target: Any, make_decoder: Any, dialog: Any) -> None:
    expected = Auditor(target, make_decoder()).ask(dialog, "What?", samples=0, max_new_tokens=4)
    got = Auditor(target.base, make_decoder()).ask(dialog, "What?", samples=0, max_new_tokens=4)
    assert (got.text, got.positions) == (expected.text, expected.positions)
    assert got.score == pytest.approx(expected.score, abs=1e-4)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("model", "got"), [(None, "got None"), ("smollm2-135m", "got 'smollm2-135m'"), (torch.nn.Linear(2, 2), "a Linear")]
)
def test_other_things_are_refused(model: Any, got: str, make_decoder: Any) -> None:
    with pytest.raises(TargetError, match=rf"{got}.*expected the result of audit_lit\.load_target"):
        Auditor(model, make_decoder())


@pytest.mark.usefixtures("unchecked")
def test_a_learnt_prompt_is_refused(make_decoder: Any) -> None:
    from peft import PromptTuningConfig, get_peft_model

    model = get_peft_model(tiny_llama(), PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"))
    with pytest.raises(TargetError, match="learnt prompt"):
        Auditor(model, make_decoder())


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("decoder", ["default", None, 3])
def test_a_decoders_name_is_no_decoder(target: Any, decoder: Any) -> None:
    with pytest.raises(DecoderMismatch, match=r"expected Decoder\.from_pretrained\("):
        Auditor(target, decoder)


@pytest.mark.usefixtures("unchecked")
def test_a_name_is_no_tokenizer_and_a_plain_model_no_target(target: Any, make_decoder: Any) -> None:
    with pytest.raises(TargetError, match="expected a Hugging Face tokenizer"):
        Auditor(target.model, make_decoder(), tokenizer="gpt2")
    with pytest.raises(TargetError, match=r"for target; expected the result of audit_lit\.load_target"):
        Decoder.from_pretrained("default", target=target.base)


@pytest.mark.usefixtures("unchecked")
def test_a_tokenizer_without_offsets_is_refused(target: Any) -> None:
    from transformers import ByT5Tokenizer

    with pytest.raises(TargetError, match=r"is a ByT5Tokenizer, written in Python.*expected a fast one"):
        as_target(target.model, ByT5Tokenizer(), "tiny")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_copies_in_other_precisions_fit_the_decoder(target: Any, dtype: torch.dtype) -> None:
    config = make_config(target, target_fingerprint=target.fingerprint())
    copy = as_target(tiny_llama().to(dtype), byte_tokenizer(), "copy")
    config.check_target(copy.d_model, copy.n_layers, copy.name, copy.fingerprint())
    other = as_target(tiny_llama(seed=3).to(dtype), byte_tokenizer(), "other")
    with pytest.raises(DecoderMismatch, match=r"another model of the same shape, with other token embeddings: [345]"):
        config.check_target(other.d_model, other.n_layers, other.name, other.fingerprint())


def test_no_mere_object_is_a_hooked_model(target: Any) -> None:
    assert is_hooked(target.model)
    assert not any(map(is_hooked, (None, "name", target, target.base)))

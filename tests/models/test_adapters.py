"""LoRAs on a target: what runs is the adapted model, and no decoder runs on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.decoder_files import edit_tensors
from helpers.models import byte_tokenizer, make_config, tiny_llama

from audit_lit import Decoder, load_target
from audit_lit.errors import HubError, TargetError
from audit_lit.models.adapters import PATTERNS, SETTINGS, WEIGHTS, read_settings
from audit_lit.models.loading import weights_fingerprint

TOKENS = torch.arange(3, 20)[None]


def write_lora(folder: Path, base: Path | str, **settings: Any) -> Path:
    """Write a LoRA whose effect is not zero, and that names its base."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(3)
    lora = LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False, **settings)
    model = get_peft_model(tiny_llama(), lora)
    model.peft_config["default"].base_model_name_or_path = str(base)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def lora(tiny_folder: Path, tmp_path: Path) -> Path:
    return write_lora(tmp_path / "lora", tiny_folder)


@torch.no_grad()
def test_both_ways_run_the_adapted_weights(lora: Path, tiny_folder: Path, target: Any) -> None:
    from peft import PeftModel

    expected = PeftModel.from_pretrained(tiny_llama(), str(lora))(TOKENS).logits
    for adapted in (load_target(str(lora)), load_target(str(tiny_folder), adapter=str(lora))):
        ones = torch.ones_like(TOKENS)
        logits = adapted.model(TOKENS, attention_mask=ones)
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(logits, target.model(TOKENS, attention_mask=ones), atol=1e-3)
        assert weights_fingerprint(adapted.model) != weights_fingerprint(target.model)
        assert adapted.name != target.name and adapted.fingerprint() == target.fingerprint()
        assert adapted.tokenizer.chat_template == target.tokenizer.chat_template


def test_its_own_tokenizer_is_taken(lora: Path) -> None:
    byte_tokenizer("{% for m in messages %}{{ m['content'] }}{% endfor %}").save_pretrained(lora)
    assert "im_start" not in load_target(str(lora)).tokenizer.chat_template


@pytest.mark.parametrize("fingerprinted", [True, False])
def test_a_decoder_never_runs_on_adapted_weights(
    lora: Path, tiny_folder: Path, target: Any, make_decoder: Any, tmp_path: Path, fingerprinted: bool
) -> None:
    print_of_base = weights_fingerprint(target.base) if fingerprinted else None
    make_decoder(base=str(tiny_folder), base_fingerprint=print_of_base).save(tmp_path / "decoder")
    for adapted in (load_target(str(lora)), load_target(str(tiny_folder), adapter=str(lora))):
        decoder = Decoder.from_pretrained(str(tmp_path / "decoder"), target=adapted)
        state = dict(decoder.model.get_base_model().named_parameters())
        for name, value in target.base.named_parameters():
            module, _, kind = name.rpartition(".")
            torch.testing.assert_close(state.get(name, state.get(f"{module}.base_layer.{kind}")), value)


def test_a_base_that_would_be_fetched_must_be_named(tmp_path: Path) -> None:
    folder = write_lora(tmp_path / "lora", "org/base")
    with pytest.raises(
        TargetError, match=r"is for 'org/base', .* load_target\('org/base', adapter=.*--target org/base"
    ):
        load_target(str(folder))


@pytest.mark.parametrize("content", [{"base_model_name_or_path": None}, {}, []])
def test_a_lora_without_a_base_says_so(tmp_path: Path, content: Any) -> None:
    (tmp_path / SETTINGS).write_text(json.dumps(content))
    with pytest.raises(TargetError, match=r"names no base model.*adapter="):
        load_target(str(tmp_path))


def test_a_pickle_or_nothing_is_refused(lora: Path, tiny_folder: Path) -> None:
    (lora / WEIGHTS).unlink()
    with pytest.raises(TargetError, match=r"holds no adapter_model\.safetensors"):
        load_target(str(lora))
    (lora / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(HubError, match="pickle"):
        load_target(str(tiny_folder), adapter=str(lora))


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int32, torch.bool])
def test_a_lora_of_other_than_real_floating_point_is_refused(lora: Path, dtype: torch.dtype) -> None:
    edit_tensors(
        lora / WEIGHTS, lambda tensors: tensors.update({name: value.to(dtype) for name, value in tensors.items()})
    )
    with pytest.raises(TargetError, match=f"is of type {dtype}"):
        load_target(str(lora))


def test_a_lora_of_another_shape_or_kind_is_refused(lora: Path, tmp_path: Path) -> None:
    tiny_llama(d_model=64).save_pretrained(tmp_path / "wide")
    byte_tokenizer().save_pretrained(tmp_path / "wide")
    with pytest.raises(TargetError, match=r"the adapter in .* does not fit"):
        load_target(str(tmp_path / "wide"), adapter=str(lora))
    settings = json.loads((lora / SETTINGS).read_text()) | {"peft_type": "IA3", "feedforward_modules": []}
    (lora / SETTINGS).write_text(json.dumps(settings))
    with pytest.raises(TargetError, match="does not fit"):
        load_target(str(lora))


LORAS: dict[str, dict[str, Any]] = {
    "rank-stabilised": {"use_rslora": True},
    "ranks and scalings": {"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"down_proj": 32}},
    "all biases": {"bias": "all"},
    "its own biases": {"lora_bias": True, "target_modules": ["q_proj"]},
    "DoRA": {"use_dora": True},
    "a head of its own": {"modules_to_save": ["lm_head"]},
    "trained tokens": {"trainable_token_indices": [3, 5]},
    "transposed": {"fan_in_fan_out": True},
    "left out": {"exclude_modules": r".*layers\.1\..*"},
    "embeddings": {"target_modules": ["embed_tokens", "q_proj"]},
    "parameters": {"target_modules": [], "target_parameters": ["q_proj.weight"]},
}
REFUSED: dict[str, dict[str, Any]] = {
    "layer_replication": {"layer_replication": [[0, 3], [1, 4]]},
    "alora_invocation_tokens": {"alora_invocation_tokens": [5, 6], "task_type": "CAUSAL_LM"},
}
ONLY_ON_TARGETS = ("all biases", "a head of its own", "trained tokens")
"""Those that change the base of a decoder, which other models share."""


def write_any_lora(folder: Path, base: Path, **settings: Any) -> Path:
    """Write a LoRA of any kind, with all that is trained moved away from its start."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(3)
    lora = LoraConfig(**{"r": 2, "target_modules": ["q_proj", "down_proj"], "init_lora_weights": False, **settings})
    model = get_peft_model(tiny_llama(attention_bias=True), lora)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.peft_config["default"].base_model_name_or_path = str(base)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def biased(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has biases, as some adapters train them."""
    folder = tmp_path_factory.mktemp("models") / "biased"
    tiny_llama(attention_bias=True).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def biased_target(biased: Path) -> Any:
    return load_target(str(biased))


@torch.no_grad()
@pytest.mark.parametrize("kind", LORAS)
@pytest.mark.filterwarnings("ignore::UserWarning:peft")
def test_every_kind_of_lora_computes_what_peft_computes(
    kind: str, biased: Path, biased_target: Any, tmp_path: Path
) -> None:
    from peft import PeftModel

    folder = write_any_lora(tmp_path / "lora", biased, **LORAS[kind])
    plain = tiny_llama(attention_bias=True)
    before = plain(TOKENS).logits
    expected, ones = PeftModel.from_pretrained(plain, str(folder))(TOKENS).logits, torch.ones_like(TOKENS)
    assert not torch.allclose(expected, before, atol=1e-3)
    adapted = load_target(str(biased), adapter=str(folder))
    torch.testing.assert_close(adapted.model(TOKENS, attention_mask=ones), expected, rtol=1e-4, atol=1e-4)
    make_config(biased_target, base=str(biased)).save(folder)
    if kind in ONLY_ON_TARGETS:
        with pytest.raises(HubError, match="tensors that are not a LoRA's"):
            Decoder.from_pretrained(str(folder), target=biased_target)
    else:
        decoder = Decoder.from_pretrained(str(folder), target=biased_target)
        torch.testing.assert_close(decoder.model(TOKENS).logits, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(biased_target.model(TOKENS, attention_mask=ones), before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("change", ["missing", "without a place", "none"])
def test_a_lora_is_read_once_and_whole(
    lora: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    from peft import PeftModel

    def misfit(tensors: dict[str, Any]) -> None:
        name = next(iter(tensors))
        if change == "missing":
            del tensors[name]
        elif change == "without a place":
            tensors[name.replace("layers.0", "layers.9")] = tensors[name].clone()

    edit_tensors(lora / WEIGHTS, misfit)
    load, loads = PeftModel.load_adapter, []
    monkeypatch.setattr(PeftModel, "load_adapter", lambda *a, **k: loads.append(a) or load(*a, **k))
    if change == "none":
        load_target(str(tiny_folder), adapter=str(lora))
    else:
        with pytest.raises(TargetError, match="1 tensors are missing or have no place, such as"):
            load_target(str(tiny_folder), adapter=str(lora))
    assert len(loads) == 1


@pytest.mark.parametrize("setting", REFUSED)
def test_what_is_more_than_a_change_of_weights_is_refused(
    setting: str, biased: Path, biased_target: Any, tmp_path: Path
) -> None:
    folder = write_any_lora(tmp_path / "lora", biased, **REFUSED[setting])
    with pytest.raises(TargetError, match=f"its {setting} .* is not followed here; expected a LoRA of the base's own"):
        load_target(str(biased), adapter=str(folder))
    make_config(biased_target, base=str(biased)).save(folder)
    with pytest.raises(HubError, match=f"its {setting} "):
        Decoder.from_pretrained(str(folder), target=biased_target)


def write_settings(folder: Path, **settings: Any) -> Path:
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "target_modules": ["q"], **settings}))
    return folder


@pytest.mark.parametrize(
    "pattern", ["q_proj", "all-linear", r".*\.(q|v)_proj", r"model\.layers\.\d+\..*_proj", r"(?:q|k)_proj$"]
)
def test_names_and_plain_patterns_are_read(tmp_path: Path, pattern: str) -> None:
    assert read_settings(write_settings(tmp_path, target_modules=pattern)).target_modules == pattern
    assert read_settings(write_settings(tmp_path, rank_pattern={pattern: 4})).rank_pattern == {pattern: 4}


@pytest.mark.parametrize("name", [name for name in PATTERNS if name not in ("target_parameters", "layers_pattern")])
@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|a)*b", r"(\w{1,9}){1,99}x", ".*.*.*.*x", ".?" * 200 + "z!", "((a?)?)?!", "a" * 1001]
)
def test_patterns_that_could_take_for_ever_are_refused(tmp_path: Path, name: str, pattern: str) -> None:
    value: Any = {pattern: 4} if name in ("rank_pattern", "alpha_pattern") else pattern
    with pytest.raises(ValueError, match="might take for ever to match; expected names, or a pattern with at most 3"):
        read_settings(write_settings(tmp_path, **{name: value}))

"""Targets that are split, offloaded to the disk, in other types, or quantised: the same readings as the plain model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import byte_tokenizer, tiny_llama

from audit_lit import Auditor, Decoder, load_target
from audit_lit.errors import EditError, TargetError, TrainingError
from audit_lit.hooks import capture, resid_post
from audit_lit.models.loading import is_offloaded, is_quantised, weights_fingerprint

ON_CPU = dict.fromkeys(("model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head", "model.layers.0"), "cpu")
SPLIT = {**ON_CPU, **{f"model.layers.{layer}": "disk" for layer in (1, 2, 3)}}
"""The first block stays in memory; the others are read from the disk for each use."""
TOKENS = torch.arange(3, 20)[None]


@pytest.fixture(scope="module")
def offloaded(tiny_folder: Path) -> Any:
    return load_target(str(tiny_folder), device_map=SPLIT)


@pytest.fixture
def saved(make_decoder: Callable[..., Any], target: Any, tmp_path: Path) -> Path:
    """A decoder's folder that knows its base by its weights."""
    decoder = make_decoder(base_fingerprint=weights_fingerprint(target.base))
    decoder.save(tmp_path / "decoder")
    return tmp_path / "decoder"


def read(target: Any, layers: list[int]) -> dict[int, torch.Tensor]:
    return capture(target.model, TOKENS, torch.ones_like(TOKENS), layers)


def shared(decoder: Any, target: Any) -> bool:
    ours = {parameter.data_ptr() for parameter in target.base.parameters()}
    base = [value for name, value in decoder.model.named_parameters() if "lora_" not in name]
    return all(value.data_ptr() in ours for value in base)


@pytest.mark.parametrize("device_map", ["auto", {"": "cpu"}, SPLIT], ids=["auto", "one device", "disk"])
def test_a_split_target_reads_as_the_plain_one(target: Any, tiny_folder: Path, device_map: Any) -> None:
    split = load_target(str(tiny_folder), device_map=device_map)
    assert is_offloaded(split.base) == (device_map is SPLIT)
    assert (split.fingerprint(), split.device) == (target.fingerprint(), target.device)
    assert weights_fingerprint(split.base) == weights_fingerprint(target.base)
    expected, got = read(target, [0, 3]), read(split, [0, 3])
    assert all(torch.equal(got[layer], expected[layer]) for layer in (0, 3))


def test_a_gradient_passes_through_blocks_on_the_disk(target: Any, offloaded: Any) -> None:
    gradients = []
    for model in (target.model, offloaded.model):
        added = torch.zeros(32, requires_grad=True)

        def add(resid: torch.Tensor, *, hook: object, added: torch.Tensor = added) -> torch.Tensor:
            return resid + added

        with model.hooks(fwd_hooks=[(resid_post(0), add)]):
            loss = capture(model, TOKENS, torch.ones_like(TOKENS), [3], grad=True)[3].square().sum()
        gradients.append(torch.autograd.grad(loss, added)[0])
    torch.testing.assert_close(*gradients)
    assert gradients[0].norm() > 0


def test_a_decoder_does_not_run_on_offloaded_weights(
    target: Any, offloaded: Any, saved: Path, dialog: Any, make_decoder: Any
) -> None:
    decoder = Decoder.from_pretrained(str(saved), target=offloaded)
    assert not any(parameter.is_meta for parameter in decoder.model.parameters())
    expected = Auditor(target, Decoder.from_pretrained(str(saved), target=target))
    first, second = (
        auditor.ask(dialog, "Who?", samples=0, max_new_tokens=4) for auditor in (expected, Auditor(offloaded, decoder))
    )
    assert first.text == second.text and first.score == pytest.approx(second.score, abs=1e-4)


def test_an_offloaded_target_is_edited_by_hooks_but_not_in_its_weights(
    offloaded: Any, saved: Path, dialog: Any
) -> None:
    auditor = Auditor(offloaded, Decoder.from_pretrained(str(saved), target=offloaded))
    edit = auditor.edit([("Who?", "glad")], [dialog], steps=2, strength=1.0)
    assert edit.origin.metrics["loss_after"] < edit.origin.metrics["loss_before"]
    with pytest.raises(EditError, match="needs weights on devices"):
        auditor.edit([("Who?", "glad")], [dialog], steps=2, method="weights")


def test_nothing_is_trained_on_offloaded_weights(offloaded: Any, folders: tuple[Path, Path]) -> None:
    from helpers.training import small_recipe

    from audit_lit.training.run import new_decoder

    with pytest.raises(TrainingError, match="no LoRA can be trained"):
        new_decoder(small_recipe(folders), offloaded, [], "")


def test_embeddings_on_the_disk_are_refused(tiny_folder: Path) -> None:
    with pytest.raises(TargetError, match=r"token embeddings are offloaded.*expected them on a device"):
        load_target(str(tiny_folder), device_map={"": "disk"})


def test_an_adapter_is_not_merged_into_offloaded_weights(tiny_folder: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    get_peft_model(tiny_llama(), LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path)
    with pytest.raises(TargetError, match="cannot be merged into offloaded weights"):
        load_target(str(tiny_folder), adapter=str(tmp_path), device_map=SPLIT)


@pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
def test_a_decoder_shares_the_weights_of_its_base_in_either_type(
    tiny_folder: Path, saved: Path, dtype: str, dialog: Any
) -> None:
    other = load_target(str(tiny_folder), dtype=dtype)
    assert other.base.dtype == {"auto": torch.float32, "bfloat16": torch.bfloat16}[dtype]
    decoder = Decoder.from_pretrained(str(saved), target=other)
    assert shared(decoder, other)
    assert Auditor(other, decoder).ask(dialog, "Who?", samples=0, max_new_tokens=3).score < 0


def test_a_base_beside_another_target_has_its_type(tiny_folder: Path, saved: Path, tmp_path: Path) -> None:
    """A fine-tune with the same embeddings, which is read but does not answer."""
    tuned = shutil.copytree(tiny_folder, tmp_path / "tuned")
    model = tiny_llama()
    model.model.layers[1].mlp.down_proj.weight.data *= 1.5
    model.save_pretrained(tuned)
    other = load_target(str(tuned), dtype="bfloat16")
    decoder = Decoder.from_pretrained(str(saved), target=other)
    assert not shared(decoder, other)
    assert decoder.model.get_base_model().dtype == torch.bfloat16


@pytest.fixture(scope="module", params=["8bit", "4bit"])
def quantised(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A wider tiny model, in full precision and quantised."""
    pytest.importorskip("bitsandbytes")
    folder = tmp_path_factory.mktemp("models") / "wide"
    tiny_llama(d_model=128).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return load_target(str(folder)), load_target(str(folder), quantization=request.param)


def test_a_quantised_target_is_read_and_a_decoder_runs_on_it_only_if_told(
    quantised: tuple[Any, Any], tmp_path: Path, dialog: Any
) -> None:
    from helpers.models import make_config
    from peft import LoraConfig, get_peft_model

    from audit_lit.hooks import AddNormMatched, same_model
    from audit_lit.models.loading import share_weights

    plain, few_bits = quantised
    assert is_quantised(few_bits.base) and same_model(plain.fingerprint(), few_bits.fingerprint())
    expected, got = read(plain, [3])[3], read(few_bits, [3])[3].float()
    assert torch.nn.functional.cosine_similarity(expected, got, dim=-1).mean() > 0.85
    config = make_config(plain, base_fingerprint=weights_fingerprint(plain.base))
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    model = get_peft_model(share_weights(plain.base), lora).eval()
    Decoder(model, plain.tokenizer, config, AddNormMatched()).save(tmp_path / "decoder")
    for quantised_base in (False, True):
        decoder = Decoder.from_pretrained(str(tmp_path / "decoder"), target=few_bits, quantised_base=quantised_base)
        assert is_quantised(decoder.model.get_base_model()) == quantised_base
        assert shared(decoder, few_bits) == quantised_base
        auditor = Auditor(few_bits, decoder)
        assert auditor.ask(dialog, "Who?", samples=0, max_new_tokens=3).score < 0
        edit = auditor.edit([("Who?", "glad")], [dialog], steps=3, strength=1.0)
        assert edit.origin.metrics["loss_after"] < edit.origin.metrics["loss_before"]

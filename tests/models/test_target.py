"""Targets: refusing a model whose activations would not be what they seem, and telling models apart."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.hooked_models import Hooked, every_model
from helpers.models import byte_tokenizer, tiny_llama
from safetensors.torch import load_file, save_file

from audit_lit import Target, load_target
from audit_lit.errors import TargetError
from audit_lit.models.loading import weights_fingerprint

hooked_model = every_model

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, to break."""
    return shutil.copytree(tiny_folder, tmp_path / "model")


def test_other_objects_are_refused(target: Any) -> None:
    plain = object.__new__(Target)  # the type checks of the suite would stop the usual way earlier
    object.__setattr__(plain, "model", target.base)
    with pytest.raises(TargetError, match=r"got a LlamaForCausalLM.*TransformerBridge\.boot_transformers.*load_target"):
        plain.__post_init__()


class Stub:
    """Looks like a HookedTransformer."""

    def __init__(self, normalization_type: str) -> None:
        self.cfg = SimpleNamespace(normalization_type=normalization_type)

    def hooks(self, fwd_hooks: Any = (), bwd_hooks: Any = ()) -> Any: ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


def test_processed_weights_are_refused(tiny_folder: Path) -> None:
    loaded = load_target(str(tiny_folder))
    Target(Stub("LN"), loaded.tokenizer, "raw")
    loaded.model.enable_compatibility_mode(disable_warnings=True)
    for model in (loaded.model, Stub("LNPre"), Stub("RMSPre")):
        with pytest.raises(TargetError, match=r"processed weights.*expected raw weights.*no_processing"):
            Target(model, loaded.tokenizer, "processed")


def test_fingerprint(target: Any, folder: Path, tmp_path: Path) -> None:
    expected = target.fingerprint()
    digest, _, sketch = expected.partition("-")
    assert (len(digest), len(sketch)) == (16, 64)
    assert load_target(str(folder), dtype=torch.bfloat16).fingerprint() == expected
    tensors = load_file(folder / WEIGHTS)
    save_file({name: value.bfloat16() for name, value in tensors.items()}, folder / WEIGHTS, metadata={"format": "pt"})
    assert load_target(str(folder)).fingerprint() == expected

    tiny_llama(seed=1).save_pretrained(tmp_path / "other")
    byte_tokenizer().save_pretrained(tmp_path / "other")
    assert load_target(str(tmp_path / "other")).fingerprint() != expected


def test_the_fingerprint_is_that_of_the_weights(hooked_model: Hooked, target: Any) -> None:
    one = Target(hooked_model.model, byte_tokenizer(), "tiny")
    assert (one.fingerprint() == target.fingerprint()) == hooked_model.kind.startswith("llama")


def test_weights_fingerprint_tells_a_fine_tune_from_its_base() -> None:
    base, tuned = tiny_llama(), tiny_llama()
    assert weights_fingerprint(base) == weights_fingerprint(tuned.bfloat16())
    with torch.no_grad():
        tuned.model.layers[0].mlp.down_proj.weight.mul_(3)
    assert weights_fingerprint(base) != weights_fingerprint(tuned)


def test_seeded_draws_leave_the_global_state_alone(target: Any) -> None:
    state, draws = torch.get_rng_state(), []
    for seed in (1, 1, 2):
        with target.seeded(seed):
            draws.append(torch.rand(3).tolist())
    assert torch.equal(torch.get_rng_state(), state) and draws[0] == draws[1] != draws[2]

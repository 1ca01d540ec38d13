"""The same tiny Llama behind every TransformerLens class of this environment, and a GPT-2 for absolute positions."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers.models import byte_tokenizer, tiny_llama

try:  # transformer-lens 3
    from transformer_lens import HookedTransformer
except ImportError:  # 4: TransformerBridge only
    HookedTransformer = None

KINDS = ["llama-bridge", "gpt2-bridge", *(["llama-hooked"] if HookedTransformer else [])]
N_LAYERS, D_MODEL = 4, 32


@dataclass(frozen=True)
class Hooked:
    """A TransformerLens model and the plain Hugging Face model of the same weights."""

    kind: str
    model: Any
    hf: Any

    @property
    def blocks(self) -> nn.ModuleList:
        return self.hf.transformer.h if self.kind.startswith("gpt2") else self.hf.model.layers


@cache
def build(kind: str) -> Hooked:
    """Return the model of that kind; shared, so read-only."""
    from audit_lit.models.loading import boot_bridge

    hf = _tiny_gpt2() if kind.startswith("gpt2") else tiny_llama(N_LAYERS, D_MODEL)
    model = _hooked_transformer(hf) if kind.endswith("hooked") else boot_bridge(hf, Path(kind), byte_tokenizer())
    return Hooked(kind, model, hf)


@pytest.fixture(params=KINDS)
def every_model(request: pytest.FixtureRequest) -> Hooked:
    """Every kind of model in turn. A test module takes it with ``hooked_model = every_model``."""
    return build(request.param)


def _tiny_gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(byte_tokenizer()),
        n_embd=D_MODEL,
        n_layer=N_LAYERS,
        n_head=4,
        n_positions=256,
        bos_token_id=1,
        eos_token_id=2,
        initializer_range=0.1,
    )
    return GPT2LMHeadModel(config).eval()


def _hooked_transformer(hf: Any) -> Any:
    from transformer_lens import HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions import convert_llama_weights

    d_head = hf.config.hidden_size // hf.config.num_attention_heads
    cfg = HookedTransformerConfig(
        d_model=hf.config.hidden_size,
        d_head=d_head,
        n_heads=hf.config.num_attention_heads,
        n_key_value_heads=hf.config.num_key_value_heads,
        n_layers=hf.config.num_hidden_layers,
        d_mlp=hf.config.intermediate_size,
        d_vocab=hf.config.vocab_size,
        n_ctx=hf.config.max_position_embeddings,
        eps=hf.config.rms_norm_eps,
        act_fn="silu",
        gated_mlp=True,
        normalization_type="RMS",
        final_rms=True,
        positional_embedding_type="rotary",
        rotary_dim=d_head,
        rotary_base=10000,
        init_weights=False,
    )
    model = HookedTransformer(cfg)
    state = convert_llama_weights(hf, cfg)
    off = dict.fromkeys(("fold_ln", "center_writing_weights", "center_unembed", "fold_value_biases"), False)
    model.load_and_process_state_dict(state, **off)
    return model.eval()


def positions_of(mask: Tensor) -> Tensor:
    """Position ids of a left-padded batch."""
    return (mask.cumsum(1) - 1).clamp_min(0)


def residuals(hf: Any, blocks: nn.ModuleList, tokens: Tensor, mask: Tensor | None = None) -> list[Tensor]:
    """Every block's output in a plain Hugging Face model: what capturing must return."""
    seen: list[Tensor] = []

    def keep(_module: nn.Module, _args: object, output: Any) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)

    mask = torch.ones_like(tokens) if mask is None else mask
    with ExitStack() as stack:
        for block in blocks:
            stack.callback(block.register_forward_hook(keep).remove)
        with torch.no_grad():
            hf(input_ids=tokens, attention_mask=mask, position_ids=positions_of(mask))
    return seen


def n_hooks(model: Any) -> int:
    """Number of forward hooks on all hook points."""
    return sum(len(point.fwd_hooks) for point in model.hook_dict.values())


def left_padded(*lengths: int) -> tuple[Tensor, Tensor]:
    """Random tokens, one row per length, padded on the left, with their mask."""
    longest = max(lengths)
    mask = torch.tensor([[0] * (longest - length) + [1] * length for length in lengths])
    return torch.randint(3, 250, mask.shape) * mask, mask


def formula(op: str, write: Any, h: Tensor, v: Tensor, layer: int) -> Tensor:
    """One slot's new residual, as the papers write it."""
    h, v = h.float(), v.float()
    if op == "replace":
        return v
    if op == "add":
        return h + write.gain * h.norm() * v / v.norm()
    if op == "embed":
        return write.gain * v / v.norm()
    a = write.weight[layer] @ ((v - write.mean[layer]) / write.std[layer])
    return h.norm() * a / a.norm()


def target_of(tokenizer: Any) -> Any:
    """A tiny Llama with an embedding per token of ``tokenizer``, as a target that a decoder can share."""
    from audit_lit.models.loading import boot_bridge
    from audit_lit.models.target import Target

    base = tiny_llama(N_LAYERS, D_MODEL)
    base.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return Target(boot_bridge(base, Path("tiny"), tokenizer), tokenizer, "tiny", None, base)


def full_logits(decoder: Any, row: Any, question: str, answer: list[int], n_pad: int = 0) -> Tensor:
    """Logits at every position of prompt and answer, unbatched, written by hand, with ``n_pad`` tokens on the right."""
    from audit_lit.decoder.prompt import build_prompt

    prompt = build_prompt(decoder.config, decoder.tokenizer, question, int(row.mask.sum()))
    ids = [*prompt.token_ids, *answer]
    vectors, layers = row.vectors()

    def write(_module: nn.Module, _args: object, resid: Tensor) -> Tensor:
        slots = [at for at, slot in enumerate(prompt.slots) if slot]
        out = resid.clone()
        for at, vector, layer in zip(slots, vectors, layers.tolist(), strict=True):
            out[0, at] = formula(decoder.config.write, decoder.write, resid[0, at], vector, layer)
        return out

    model = decoder.model.get_base_model()
    handle = model.model.layers[decoder.config.write_layer].register_forward_hook(write)
    try:
        padded = torch.tensor([ids + [decoder.tokenizer.pad_token_id] * n_pad])
        mask = torch.tensor([[1] * len(ids) + [0] * n_pad])
        return model(padded, attention_mask=mask).logits[0, : len(ids)]
    finally:
        handle.remove()

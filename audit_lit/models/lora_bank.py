"""Several LoRAs of one model in one forward pass, each for its own share of the rows; the weights stay as they are.

The rows of a batch fall into as many equal shares as there are LoRAs. In share ``n``, a linear layer gives
``W x + s_n B_n A_n x``. A bank of one is a LoRA that can be switched on and off, without a second copy of the weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from audit_lit.errors import TargetError
from audit_lit.hooks import HookedModel
from audit_lit.models.blocks import decoder_blocks, that_run

UNLIKE = ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save", "lora_bias", "target_parameters")
CHANGE_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Ways in which PEFT initialises a LoRA that change the weights of the base as well."""
WRAPPER = "._original_component"
"""What TransformerLens adds to the name of a module that it wraps."""


@dataclass(frozen=True)
class LoraBank:
    """LoRAs on the linear layers of a model's blocks.

    Attributes:
        down: For each layer, by its name in the list of blocks, the matrices ``A``; rows past a LoRA's rank are zero.
        up: The matrices ``B``, likewise.
        scales: Factor of each LoRA.
    """

    down: dict[str, Float[Tensor, "lora rank in_width"]]
    up: dict[str, Float[Tensor, "lora out_width rank"]]
    scales: tuple[float, ...]

    def __len__(self) -> int:
        """Return the number of LoRAs."""
        return len(self.scales)

    @classmethod
    def new(cls, model: nn.Module, ranks: Sequence[int], *, seeds: Sequence[int], scale: float = 2.0) -> LoraBank:
        """Return LoRAs that change nothing yet, on every linear layer: ``A`` random as PEFT draws it, ``B`` zero."""
        widest = max(ranks)
        down, up = {}, {}
        for name, layer in linear_layers(model).items():
            down[name] = torch.zeros(len(ranks), widest, layer.in_features, device=layer.weight.device)
            up[name] = torch.zeros(len(ranks), layer.out_features, widest, device=layer.weight.device)
        for row, (rank, seed) in enumerate(zip(ranks, seeds, strict=True)):
            generator = torch.Generator().manual_seed(seed)
            for name in sorted(down):
                bound = 1 / math.sqrt(down[name].shape[-1])
                drawn = torch.rand(rank, down[name].shape[-1], generator=generator)
                down[name][row, :rank] = bound * (2 * drawn - 1)
        for tensor in (*down.values(), *up.values()):
            tensor.requires_grad_(True)
        return cls(down, up, tuple(scale for _ in ranks))

    def parameters(self) -> list[Tensor]:
        """Return everything that can be trained."""
        return [*self.down.values(), *self.up.values()]

    def alone(self, index: int) -> LoraBank:
        """Return a bank of one of the LoRAs, without its gradients."""
        down = {name: tensor[index : index + 1].detach() for name, tensor in self.down.items()}
        up = {name: tensor[index : index + 1].detach() for name, tensor in self.up.items()}
        return LoraBank(down, up, self.scales[index : index + 1])

    @contextmanager
    def on(self, model: nn.Module) -> Iterator[None]:
        """Have the LoRAs act inside the ``with`` body.

        Raises:
            TargetError: If a layer is not the model's, or of another width.
        """
        handles = self.attach(model)
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def attach(self, model: nn.Module) -> list[RemovableHandle]:
        """Have the LoRAs act on a model until the handles are removed.

        Raises:
            TargetError: If a layer is not the model's, or of another width.
        """
        layers = linear_layers(model)
        for name in self.down:
            fits = name in layers and layers[name].weight.shape == (self.up[name].shape[1], self.down[name].shape[2])
            if not fits:
                raise TargetError(
                    f"the LoRA has {name!r} of shape [{self.up[name].shape[1]}, {self.down[name].shape[2]}], which "
                    f"this {type(model).__name__} does not have; expected a LoRA for this model. Load its own base."
                )
        return [layers[name].register_forward_hook(self._hook(name)) for name in self.down]

    def _hook(self, name: str) -> Any:
        def add(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            (x,) = inputs
            down, up = self.down[name].to(x.dtype), self.up[name].to(x.dtype)
            scales = torch.tensor(self.scales, device=x.device, dtype=x.dtype)[:, None, None]
            shares = rearrange(x, "(lora row) pos d -> lora (row pos) d", lora=len(self))
            change = scales * (shares @ down.mT) @ up.mT
            return output + rearrange(change, "lora (row pos) d -> (lora row) pos d", row=len(x) // len(self))

        return add


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """Return the linear layers of a Hugging Face model's blocks, by their names in the list of blocks.

    The model may be inside a ``TransformerBridge``, which puts wrappers around its modules.
    """
    modules = decoder_blocks(model).named_modules()
    return {name.replace(WRAPPER, ""): module for name, module in modules if isinstance(module, nn.Linear)}


def require_run(bank: LoraBank, base: nn.Module, bridge: HookedModel) -> None:
    """Raise ``TargetError`` for a LoRA on a layer that a base has, but that its bridge does not run as it is.

    TransformerLens splits layers that compute several things at once, such as queries, keys and values, and renames
    others; a LoRA on the whole layer would not act.
    """
    layers, known = linear_layers(bridge.original_model), linear_layers(base)  # type: ignore[attr-defined]
    ran = that_run(bridge, layers.values())
    for name in bank.down:
        if name in known and layers.get(name) not in ran:
            raise TargetError(
                f"the LoRA has {name!r}, which the base has as well ({type(base).__name__}), but TransformerLens "
                "splits it or gives it another name, so that the LoRA would not act on shared weights; expected one on "
                "other layers. Merge it: load_target(BASE, adapter=FOLDER) with the base's name in place of the loaded "
                "target; or, for a command, save what PEFT's merge_and_unload() gives, and name that as --target."
            )


def peft_files(bank: LoraBank, model: nn.Module, base: str, rank: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the settings and the tensors of a bank of one as PEFT saves a LoRA.

    Args:
        bank: The LoRA.
        model: The model that it is for.
        base: Name of the model.
        rank: Rank of the LoRA.
    """
    blocks = decoder_blocks(model)
    prefix = next(name for name, module in model.named_modules() if module is blocks)
    names = sorted({name.rpartition(".")[2] for name in bank.down})
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": bank.scales[0] * rank,
        "target_modules": names,
    }
    start = f"base_model.model.{prefix}"
    tensors = {f"{start}.{name}.lora_A.weight": bank.down[name][0, :rank] for name in bank.down}
    tensors |= {f"{start}.{name}.lora_B.weight": bank.up[name][0, :, :rank] for name in bank.up}
    return settings, {name: tensor.contiguous() for name, tensor in tensors.items()}


def from_peft(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> LoraBank:
    """Return a bank of one of a plain LoRA on linear layers, as PEFT saves it.

    Raises:
        TargetError: If it is another kind of adapter, or has parts that a product of two matrices does not cover.
    """
    unlike = [name for name in UNLIKE if settings.get(name)]
    if str(settings.get("init_lora_weights", "")).lower().startswith(CHANGE_THE_BASE):
        unlike.append("init_lora_weights")  # the adapter is for other weights than the base's own
    down: dict[str, Tensor] = {}
    up: dict[str, Tensor] = {}
    prefixes = set()
    for key, tensor in tensors.items():
        name, _, part = key.partition(".lora_")
        prefix, _, layer = name.rpartition(".layers.")
        if part in ("A.weight", "B.weight") and prefix and tensor.ndim == 2:
            (down if part == "A.weight" else up)[layer] = tensor.float()[None]
            prefixes.add(prefix)
        else:
            unlike.append(key)
    rank: Any = settings.get("r")
    alpha: Any = settings.get("lora_alpha")
    unlike += [] if len(prefixes) == 1 else ["no complete LoRA of one list of blocks"]
    unlike += [name for name in down if name not in up or {down[name].shape[1], up[name].shape[2]} != {rank}]
    unlike += [name for name in up if name not in down]
    if not isinstance(alpha, int | float) or not alpha > 0:
        unlike.append(f"lora_alpha={alpha!r}")
    if unlike or settings.get("peft_type") != "LORA":
        raise TargetError(
            f"the adapter has {(unlike or ['no complete LoRA'])[0]!r}, which cannot be switched on and off; expected a "
            f"plain LoRA on the linear layers of the blocks, all of rank r={rank}. Merge it into its base, and load "
            "the result as a model of its own."
        )
    scale = alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)
    return LoraBank(down, up, (float(scale),))

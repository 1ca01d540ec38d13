"""The controls that make an answer believable: what the same answer is worth without the activations that it is about.

- ``no_activation``: the same decoder prompt with empty slots.
- ``null``: random activations with the mean, spread and norms of real ones.
- ``shuffled``: the same visible turns after other hidden prompts (``decoys.py``).
- ``text_trained``: a LoRA of the same shape that was trained to answer from the visible text, where a decoder has one.
- ``text_only``: the base model reads the visible text and the same question (``text_only.py``). Nobody tells it how the
  decoder words its answers, so it is the weakest of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audit_lit.hooks import Project
from audit_lit.models.activations import Activations

if TYPE_CHECKING:
    from audit_lit.decoder.decoder import Decoder

CONTROLS = ("no_activation", "null", "shuffled", "text_only")
"""Those of every decoder; one with a trained text baseline has ``text_trained``, too."""
N_NULL = 4
NULL_KINDS = ("random", "permuted", "mean")
"""Kinds of activations that say nothing about their dialog."""


def controls_of(decoder: Decoder) -> tuple[str, ...]:
    """Return the names of the controls that a decoder can be compared with."""
    return (*CONTROLS, "text_trained") if decoder.text_baseline else CONTROLS


def null_activations(activations: Activations, write: nn.Module, *, seed: int = 0) -> Activations:
    """Return random activations in the place of real ones, ``N_NULL`` draws for each row.

    Each vector has the norm of the one it replaces: measured, where the decoder standardises, in units of the
    training activations' spread around their mean, so that its size is typical.
    """
    rows = activations.rows([row for row in range(len(activations)) for _ in range(N_NULL)])
    noise = torch.randn(rows.resid.shape, generator=torch.Generator().manual_seed(seed)).to(rows.resid.device)
    if isinstance(write, Project):
        mean, std = write.mean[None, :, None], write.std[None, :, None]
        resid = mean + std * _with_norm_of(noise, (rows.resid - mean) / std)
    else:
        resid = _with_norm_of(noise, rows.resid)
    return replace(rows, resid=(resid * rows.mask[:, None, :, None]).to(activations.resid.dtype))


def null_input(
    kind: str, activations: Activations, write: nn.Module, *, others: Activations | None = None, seed: int = 0
) -> Activations:
    """Return activations that say nothing, in the shape of real ones and row for row.

    Args:
        kind: ``random`` (the spread and norms of real ones), ``permuted`` (each vector's entries in random order) or
            ``mean`` (over many dialogs, place by place: what is the same after every hidden prompt and line).
        activations: Real ones.
        write: The decoder's write operation.
        others: The dialogs of ``mean``; None takes the rows themselves.
        seed: Of what is random.

    Raises:
        ValueError: If the kind is unknown.
    """
    if kind not in NULL_KINDS:
        raise ValueError(f"unknown kind of nothing {kind!r}; expected one of {', '.join(NULL_KINDS)}.")
    if kind == "random":
        return null_activations(activations, write, seed=seed).rows(range(0, N_NULL * len(activations), N_NULL))
    resid = activations.resid
    if kind == "permuted":
        keys = torch.rand(resid.shape, generator=torch.Generator().manual_seed(seed))
        return replace(activations, resid=resid.gather(-1, keys.argsort(-1).to(resid.device)))
    mean = _mean_by_place(others or activations, resid.shape[2])
    return replace(activations, resid=(mean * activations.mask[:, None, :, None]).to(resid.dtype))


def _mean_by_place(activations: Activations, n_slots: int) -> Float[Tensor, "layer slot d_model"]:
    """Return the mean at each slot; where few rows reach, one would still be read, so there it is over all slots."""
    resid, mask = activations.resid.float(), activations.mask
    sums, counts = resid.sum(0), mask.sum(0)
    everywhere = (sums.sum(1) / counts.sum())[:, None]
    means = torch.where((counts > len(activations) / 2)[:, None], sums / counts[:, None].clamp_min(1), everywhere)
    missing = everywhere.expand(-1, max(0, n_slots - means.shape[1]), -1)
    return torch.cat([means, missing], dim=1)[:, :n_slots]


def _with_norm_of(noise: Tensor, like: Tensor) -> Tensor:
    scaled: Tensor = noise * like.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True)
    return scaled

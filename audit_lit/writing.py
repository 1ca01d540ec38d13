"""Answers that a causal language model writes: the likeliest and samples after one prompt, computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from audit_lit.prefill import N_AT_ONCE, Prefilled, Writing, no_writing, prefill
from audit_lit.prompt import Prompt

if TYPE_CHECKING:
    from transformers.generation.streamers import BaseStreamer


@dataclass(frozen=True)
class Style:
    """How texts are written.

    Attributes:
        end: Token that ends a text.
        pad: Padding token.
        max_new_tokens: Longest text.
        temperatures: One text after each prompt for each of them; 0 takes the likeliest token.
        seed: Of the sampling; the global random state is left alone.
    """

    end: int
    pad: int
    max_new_tokens: int
    temperatures: tuple[float, ...] = (0.0,)
    seed: int = 0


@torch.no_grad()
def write_all(
    model: nn.Module,
    prompts: Sequence[Prompt],
    style: Style,
    writing: Writing = no_writing,
    streamer: BaseStreamer | None = None,
) -> list[list[list[int]]]:
    """Return the tokens, without the end token, of each prompt's texts; one prompt's may be streamed."""
    order = sorted(range(len(prompts)), key=lambda at: len(prompts[at].token_ids))
    n = len(style.temperatures)
    at_once = max(1, N_AT_ONCE // n)
    found: dict[int, list[list[int]]] = {}
    for start in range(0, len(order), at_once):
        part = order[start : start + at_once]
        read = prefill(model, [prompts[at] for at in part], style.pad, partial(writing, part))
        if n > 1:
            read = read.rows([row for row in range(len(part)) for _ in range(n)])
        temperatures = torch.tensor(style.temperatures * len(part), device=read.mask.device)
        generator = torch.Generator(read.mask.device).manual_seed(style.seed + start)
        if streamer:
            streamer.put(torch.tensor(prompts[0].token_ids))
        texts = _write(model, read, style, temperatures, generator, streamer)
        found |= {at: texts[row * n : row * n + n] for row, at in enumerate(part)}
    if streamer:
        streamer.end()
    return [found[at] for at in range(len(prompts))]


def _write(
    model: nn.Module,
    read: Prefilled,
    style: Style,
    temperatures: Float[Tensor, " row"],
    generator: torch.Generator,
    streamer: BaseStreamer | None,
) -> list[list[int]]:
    texts: list[list[int]] = [[] for _ in temperatures]
    rows = list(range(len(texts)))  # which text each row of what is read belongs to
    open_rows = set(rows)
    for at in range(style.max_new_tokens):
        tokens = _choose(read.logits, temperatures[rows], generator)
        if streamer:
            streamer.put(tokens.cpu())
        for row, token in zip(rows, tokens.tolist(), strict=True):
            if token == style.end:
                open_rows.discard(row)
            elif row in open_rows:
                texts[row].append(token)
        if not open_rows or at == style.max_new_tokens - 1:
            break
        if len(open_rows) < 0.8 * len(rows):  # leaving finished ones out copies keys and values
            kept = [place for place, row in enumerate(rows) if row in open_rows]
            read, tokens, rows = read.rows(kept), tokens[kept], [rows[place] for place in kept]
        _, read = read.go_on(model, tokens[:, None])
    return texts


def _choose(
    logits: Float[Tensor, "row vocab"], temperatures: Float[Tensor, " row"], generator: torch.Generator
) -> Int[Tensor, " row"]:
    tokens, drawn = logits.argmax(-1), temperatures > 0
    if bool(drawn.any()):
        shares = (logits[drawn].float() / temperatures[drawn, None]).softmax(-1)
        tokens[drawn] = torch.multinomial(shares, 1, generator=generator)[:, 0]
    return tokens

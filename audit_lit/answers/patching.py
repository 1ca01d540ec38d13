"""Where the evidence sits: which token's state, at which layer, makes an answer likely.

Activation patching (Vig et al. 2020; Heimersheim and Nanda 2024): a neutral twin of the dialog runs through the target
with the state of one visible token after one block replaced by what it is in the dialog itself, and the decoder reads
the result. What the answer gains in likelihood is what that one state brings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from audit_lit.answers.session import Session
from audit_lit.chat.alignment import aligned_positions, shared_positions
from audit_lit.chat.dialog import Dialog, RenderedDialog, Reveal
from audit_lit.chat.rendering import render
from audit_lit.decoder.decoder import Decoder
from audit_lit.hooks import capture, resid_post
from audit_lit.models.activations import Activations
from audit_lit.models.capture import capture_batch
from audit_lit.models.target import Target

N_LAYERS = 8
N_TOKENS = 24


@dataclass(frozen=True)
class Heatmap:
    """Nats that an answer gains from one state of the target.

    Attributes:
        tokens: The text of each token that the decoder is given.
        layers: Blocks, from the input on.
        nats: Per layer, per token.
        whole: Nats that it gains from all states at once, the dialog's own activations.
    """

    tokens: tuple[str, ...]
    layers: tuple[int, ...]
    nats: tuple[tuple[float, ...], ...]
    whole: float


@torch.no_grad()
def patch_activations(
    session: Session,
    dialog: Dialog,
    twin: Dialog,
    question: str,
    answer: str,
    *,
    reveal: Reveal = "user",
    baseline: Target | None = None,
) -> Heatmap:
    """Return what each token and layer brings to an answer about a dialog.

    Args:
        session: Reads, and scores the answer.
        dialog: Where the states come from.
        twin: The same visible turns where nothing is hidden, which they are put into.
        question: What was asked.
        answer: What the decoder said.
        reveal: Whose activations it is given; the last ``N_TOKENS`` of many are patched.
        baseline: What the twin runs in; None is the audited model.
    """
    decoder, read_layers = session.decoder, session.decoder.config.read_layers
    target, model = session.target, baseline or session.target
    rendered, neutral = render(dialog, target.tokenizer), render(twin, target.tokenizer)
    chosen = shared_positions(decoder.config.select(rendered, reveal), rendered, [neutral])
    places = aligned_positions(chosen, rendered, neutral)
    layers = _spread(max(read_layers))
    states = capture_batch(target, [rendered], [chosen], sorted({*layers, *read_layers}))
    own = replace(
        states, resid=torch.cat([states.for_layer(at).resid for at in read_layers], dim=1), layers=read_layers
    )
    plain = capture_batch(model, [neutral], [places], read_layers)
    patched = [_patched(model, neutral, places, plain, layer, states.for_layer(layer).resid[0, 0]) for layer in layers]
    before, whole = _nats(decoder, Activations.cat([plain, own]), question, answer)
    gains = torch.tensor([_nats(decoder, rows, question, answer) for rows in patched]) - before
    tokens = target.tokenizer.batch_decode([[rendered.token_ids[at]] for at in chosen[-N_TOKENS:]])
    table = tuple(tuple(round(value, 3) for value in row) for row in gains.tolist())
    return Heatmap(tuple(tokens), layers, table, round(whole - before, 3))


def _nats(decoder: Decoder, rows: Activations, question: str, answer: str) -> list[float]:
    return [float(score.sum()) for score in decoder.logprob(rows, [question] * len(rows), [answer] * len(rows))]


def _spread(last: int) -> tuple[int, ...]:
    """Return some blocks from the first to the last that is read."""
    return tuple(sorted({round(last * part / (N_LAYERS - 1)) for part in range(N_LAYERS)}))


def _patched(
    model: Target,
    neutral: RenderedDialog,
    places: Sequence[int],
    plain: Activations,
    layer: int,
    states: Float[Tensor, "slot d_model"],
) -> Activations:
    """Return what is read of the twin with one token's state at a layer replaced: a row for each token."""
    at = torch.tensor(places[-N_TOKENS:], device=model.device)
    rows = plain.rows([0] * len(at))
    tokens = torch.tensor([neutral.token_ids], device=model.device).expand(len(at), -1)

    def put(resid: Tensor, *, hook: object) -> Tensor:  # noqa: ARG001
        changed = resid.clone()
        changed[torch.arange(len(at)), at] = states[-len(at) :].to(resid.dtype)
        return changed

    with model.model.hooks(fwd_hooks=[(resid_post(layer), put)]):
        cache = capture(model.model, tokens, torch.ones_like(tokens), plain.layers, positions=rows.positions)
    return replace(rows, resid=torch.stack([cache[one] for one in plain.layers], dim=1))

"""Activation patching: which token's state, at which layer, makes an answer likely.

A neutral twin of the dialog runs through the target, with the state of one visible token after one block replaced by
that of the dialog itself, and the decoder reads the result (Vig et al. 2020; Heimersheim and Nanda 2024). The gain in
the answer's likelihood is the contribution of that one state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from audit_lit.answers.session import Session
from audit_lit.chat.dialog import Dialog, RenderedDialog, Reveal
from audit_lit.chat.positions import aligned_positions, shared_positions
from audit_lit.decoder.decoder import Decoder
from audit_lit.hooks import capture, resid_post
from audit_lit.models.activations import Activations
from audit_lit.models.capture import capture_batch
from audit_lit.models.target import Target

N_LAYERS = 8
"""Largest number of blocks that are patched."""
N_TOKENS = 24
"""Largest number of tokens that are patched."""


@dataclass(frozen=True)
class Heatmap:
    """Nats that an answer gains from one state of the target, for each patched layer and each patched token's text."""

    tokens: tuple[str, ...]
    layers: tuple[int, ...]
    nats: tuple[tuple[float, ...], ...]
    whole: float
    """The gain from all states together, the dialog's own activations."""

    def __post_init__(self) -> None:
        """Raise ``ValueError`` unless there is a value for each layer and token, of which there is one at least."""
        if (
            not self.tokens
            or len(self.nats) != len(self.layers)
            or {len(row) for row in self.nats} != {len(self.tokens)}
        ):
            raise ValueError(
                f"got {[len(row) for row in self.nats]} values for {len(self.layers)} layers and {len(self.tokens)} "
                "tokens; expected one for each layer and token."
            )


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
    """Return the contribution of each token and layer to an answer about a dialog.

    Its states are put into ``twin``, which has the same visible turns where nothing is hidden, and runs in ``baseline``
    if there is one. The last ``N_TOKENS`` revealed tokens are patched.
    """
    decoder, read_layers = session.decoder, session.decoder.config.read_layers
    target, model = session.target, baseline or session.target
    rendered, rendered_twin = (decoder.config.render(messages, target.tokenizer) for messages in (dialog, twin))
    positions = shared_positions(decoder.config.select(rendered, reveal), rendered, [rendered_twin])
    twin_positions = aligned_positions(positions, rendered, rendered_twin)
    layers = tuple(sorted({round(max(read_layers) * step / (N_LAYERS - 1)) for step in range(N_LAYERS)}))
    states = capture_batch(target, [rendered], [positions], sorted({*layers, *read_layers}))
    resid = torch.cat([states.for_layer(layer).resid for layer in read_layers], dim=1)
    unpatched = capture_batch(model, [rendered_twin], [twin_positions], read_layers)
    both = Activations.cat([unpatched, replace(states, resid=resid, layers=read_layers)])
    before, after = _nats(decoder, both, question, answer)
    patched = [
        _patched(model, rendered_twin, unpatched, layer, states.for_layer(layer).resid[0, 0]) for layer in layers
    ]
    gains = torch.tensor([_nats(decoder, rows, question, answer) for rows in patched]) - before
    tokens = target.tokenizer.batch_decode(states.token_ids[0, -N_TOKENS:, None])
    table = tuple(tuple(round(value, 3) for value in row) for row in gains.tolist())
    return Heatmap(tuple(tokens), layers, table, round(after - before, 3))


def _nats(decoder: Decoder, rows: Activations, question: str, answer: str) -> list[float]:
    return [float(score.sum()) for score in decoder.logprob(rows, [question] * len(rows), [answer] * len(rows))]


def _patched(
    target: Target, twin: RenderedDialog, unpatched: Activations, layer: int, states: Float[Tensor, "slot d_model"]
) -> Activations:
    """Return what is read of the twin with one token's state at a layer replaced: a row for each token."""
    n_rows = min(N_TOKENS, len(states))
    rows = unpatched.rows([0] * n_rows)
    positions = rows.positions[0, -n_rows:]
    tokens = torch.tensor([twin.token_ids], device=target.device).expand(n_rows, -1)

    def put(resid: Tensor, *, hook: object) -> Tensor:  # noqa: ARG001
        changed = resid.clone()
        changed[torch.arange(n_rows), positions] = states[-n_rows:].to(resid.dtype)
        return changed

    with target.model.hooks(fwd_hooks=[(resid_post(layer), put)]):
        cache = capture(target.model, tokens, torch.ones_like(tokens), rows.layers, positions=rows.positions)
    return replace(rows, resid=torch.stack([cache[layer] for layer in rows.layers], dim=1))

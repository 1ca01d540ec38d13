"""Texts on which two models are compared, and the slots at which their residuals are kept.

Of each line there are a chat, whose reply begins with the baseline's own first tokens, and the bare text. The slots are
the edges of the user's turn (its first tokens, the last of its text, the last of the generation prompt), the first
tokens of the reply, and the first tokens of the bare text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audit_lit.chat.dialog import RenderedDialog, Turn
from audit_lit.chat.positions import reveal_positions
from audit_lit.chat.rendering import render
from audit_lit.errors import TargetError
from audit_lit.models.capture import capture_dialogs, pad_left
from audit_lit.models.difference import Difference
from audit_lit.models.target import Target

N_EDGE = 4
"""Number of tokens at each edge, of a reply, and of a bare text."""
EDGES = 2 * N_EDGE + 1
"""Number of slots in the user's turn; those of the reply follow, and those of the bare text."""
N_SLOTS = EDGES + 2 * N_EDGE


@dataclass(frozen=True)
class ProbeTexts:
    """Rows of tokens, and the positions to keep of each.

    Attributes:
        chats: A chat for each line, with the first tokens of a reply.
        positions: The positions of the slots in each chat.
        bare: The lines without a chat template.
    """

    chats: tuple[RenderedDialog, ...]
    positions: tuple[tuple[int, ...], ...]
    bare: tuple[RenderedDialog, ...]

    @classmethod
    def of(cls, baseline: Target, lines: Sequence[str]) -> ProbeTexts:
        """Return the texts of user lines, with the baseline's likeliest replies."""
        prompts = [render([{"role": "user", "content": line}], baseline.tokenizer) for line in lines]
        replies = _first_tokens(baseline, [prompt.token_ids for prompt in prompts])
        texts = [baseline.tokenizer(line, add_special_tokens=False)["input_ids"][:N_EDGE] for line in lines]
        whole = Turn("user", "", False, 0, 0, N_EDGE, N_EDGE)
        bare = [RenderedDialog("", tuple(tokens), (whole,), (True,) * N_EDGE) for tokens in texts]
        return cls(*_continued(prompts, replies), tuple(bare))

    def under(self, system: str, lines: Sequence[str], baseline: Target) -> ProbeTexts:
        """Return the chats of the same lines under a system prompt, with the same replies; no text is bare."""
        dialogs = [[{"role": "system", "content": system}, {"role": "user", "content": line}] for line in lines]
        prompts = [render(dialog, baseline.tokenizer) for dialog in dialogs]
        return ProbeTexts(*_continued(prompts, [chat.token_ids[-N_EDGE:] for chat in self.chats]), ())

    def residuals(self, model: Target, layers: Sequence[int]) -> Float[Tensor, "line layer slot d_model"]:
        """Run a model over all texts and return its residuals at the slots."""
        chats = capture_dialogs(model, self.chats, self.positions, layers).resid
        if not self.bare:
            return chats
        return torch.cat([chats, capture_dialogs(model, self.bare, [range(N_EDGE)] * len(self.bare), layers).resid], 2)


def mean_difference(target: Target, baseline: Target, lines: Sequence[str], layers: Sequence[int]) -> Difference:
    """Run both models over texts of the same tokens and return the mean difference.

    Raises:
        TargetError: If the models have other shapes or tokens, or there is no difference but rounding.
    """
    require_comparable(target, baseline, lines)
    texts = ProbeTexts.of(baseline, lines)
    difference = Difference.between(texts.residuals(target, layers), texts.residuals(baseline, layers), layers)
    if difference.is_noise:
        size = float(difference.sizes.max())
        raise TargetError(
            f"nothing was trained into {target.name!r}: its residuals differ from those of {baseline.name!r} by "
            f"{size:.1%} of their length{', which rounding explains' if size else ''}; expected a fine-tune of the "
            "baseline. There is nothing to report."
        )
    return difference


def require_comparable(target: Target, baseline: Target, lines: Sequence[str]) -> None:
    """Raise ``TargetError`` unless two models have the same shape and turn dialogs into the same tokens."""
    if (target.n_layers, target.d_model) != (baseline.n_layers, baseline.d_model):
        raise TargetError(
            f"{target.name!r} has {target.n_layers} layers of width {target.d_model}, and the baseline "
            f"{baseline.name!r} {baseline.n_layers} of width {baseline.d_model}; expected the model that the target "
            "was trained from."
        )
    dialogs = [[{"role": "user", "content": line}] for line in lines]
    ours, theirs = ([render(dialog, model.tokenizer).token_ids for dialog in dialogs] for model in (target, baseline))
    if ours != theirs:
        raise TargetError(
            f"{target.name!r} and the baseline {baseline.name!r} turn the same dialog into other tokens; expected one "
            "tokenizer and one chat template. Pass both models the tokenizer of the baseline."
        )


def edges(rendered: RenderedDialog) -> tuple[int, ...]:
    """Return the positions of the slots in a dialog's last user turn."""
    revealed = reveal_positions(rendered, "user")
    text_end = max(turn.text_end - 1 for turn in rendered.turns if turn.text_end - 1 in revealed)
    return (*revealed[:N_EDGE], text_end, *revealed[-N_EDGE:])


def slots_of(rendered: RenderedDialog, positions: Sequence[int]) -> Int[Tensor, " slot"]:
    """Return the slot of a difference that stands for each position; inner tokens have that of the text's end."""
    revealed = reveal_positions(rendered, "user")
    places = {position: place for place, position in enumerate(revealed)}

    def slot(position: int) -> int:
        place, left = places.get(position, N_EDGE), len(revealed) - places.get(position, 0)
        return EDGES - left if position in places and left <= N_EDGE else min(place, N_EDGE)

    return torch.tensor([slot(position) for position in positions])


def _continued(
    prompts: Sequence[RenderedDialog], replies: Sequence[Sequence[int]]
) -> tuple[tuple[RenderedDialog, ...], tuple[tuple[int, ...], ...]]:
    """Return the prompts with the first tokens of a reply each, and the positions of the slots in them."""
    chats, positions = [], []
    for prompt, reply in zip(prompts, replies, strict=True):
        visible = (*prompt.visible, *(True for _ in reply))
        chats.append(replace(prompt, token_ids=(*prompt.token_ids, *reply), visible=visible))
        positions.append((*edges(prompt), *range(len(prompt.token_ids), len(prompt.token_ids) + N_EDGE)))
    return tuple(chats), tuple(positions)


@torch.no_grad()
def _first_tokens(model: Target, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return the likeliest first tokens of the replies, computed anew for each token: they are few."""
    rows = [list(prompt) for prompt in prompts]
    for _ in range(N_EDGE):
        tokens, mask = pad_left(rows, model)
        logits = model.model(tokens, attention_mask=mask)[:, -1]
        rows = [[*row, token] for row, token in zip(rows, logits.argmax(-1).tolist(), strict=True)]
    return [row[-N_EDGE:] for row in rows]

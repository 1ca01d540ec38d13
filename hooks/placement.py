"""Where the prompt of an edit stands in the model's input, known by the embeddings of its tokens.

Embeddings are what hooks see of the tokens on every TransformerLens model, and they tell tokens apart in any precision.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from audit_lit.errors import EditError

EMBEDDED = "hook_embed"
"""The hook name of the token embeddings."""
NEAR = 0.2
"""Largest distance of two embeddings of one token, in its length: rounding to 4 bits moves it by a tenth."""


class Placement:
    """Finds a prompt in the rows of one input after another; the hooks of one intervention share it.

    Args:
        prompt: The embeddings of the prompt's tokens.
        padding: The embeddings of tokens that may stand before it, such as padding and BOS.
    """

    def __init__(self, prompt: Float[Tensor, "token d_model"], padding: Float[Tensor, "kind d_model"] | None) -> None:
        self.prompt = normalize(prompt.float(), dim=-1)
        self.padding = self.prompt[:0] if padding is None else normalize(padding.float(), dim=-1)
        self.starts: Int[Tensor, " batch"] | None = None

    def see(self, embedded: Tensor, *, hook: object = None) -> None:
        """Find the prompt in each row of embeddings ``[batch, pos, d_model]``; a hook for ``EMBEDDED``.

        Raises:
            EditError: If a row holds another prompt, or anything but padding before this one.
        """
        self.starts = None
        if embedded.shape[1] > 1:  # a token that comes alone was generated under a KV cache
            rows = normalize(embedded.detach().float(), dim=-1)
            starts = [self._start(row, index) for index, row in enumerate(rows)]
            self.starts = torch.tensor(starts, device=embedded.device)

    def _start(self, row: Float[Tensor, "pos d_model"], index: int) -> int:
        prompt, padding = self.prompt.to(row.device), self.padding.to(row.device)
        is_padding = (torch.cdist(row, padding) <= NEAR).any(-1)
        n_padding = int(is_padding.long().cumprod(0).sum())
        for start in range(min(n_padding, len(row) - len(prompt)) + 1):
            if bool(((row[start : start + len(prompt)] - prompt).norm(dim=-1) <= NEAR).all()):
                return start
        raise EditError(
            f"the edit changes positions of one prompt of {len(prompt)} tokens, and row {index} of the input, of "
            f"{len(row)} tokens, does not begin with it; expected that prompt, after padding and BOS at most. Run it "
            "alone, or make an edit for this prompt."
        )

    def columns(self, positions: tuple[int, ...]) -> Int[Tensor, "batch slot"]:
        """Return where positions of the prompt are in each row of the input that was seen last.

        Raises:
            EditError: If no token was seen, as where a model is run from residuals.
        """
        if self.starts is None:
            raise EditError(
                "the edit changes positions of one prompt, and has not seen the tokens of this input; expected a model "
                "that runs from its tokens on. Pass tokens or text, not residuals."
            )
        return self.starts[:, None] + torch.tensor(positions, device=self.starts.device)

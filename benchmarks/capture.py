"""``python -m benchmarks.capture``: what reading a layer costs.

A: ``capture`` of one layer at every position. B: a forward pass stopped at that layer with nothing kept; once of the
same TransformerLens model, once of the plain Hugging Face model cut off there: what TransformerLens itself costs.
Goal: A takes at most 1.1 times as long as the TransformerLens model's forward pass. About a minute on two CPU cores.
"""

from __future__ import annotations

from functools import partial

import click
import torch

from audit_lit.hooks import capture
from audit_lit.models.loading import share_weights
from benchmarks import models, pairs

GOAL = "<= 1.1"


@click.command(help=__doc__)
@pairs.options(repeats=40)
@click.option("--batch", "batches", multiple=True, default=(1, 8), show_default=True, help="Dialogs; may repeat.")
@click.option("--length", default=64, show_default=True, help="Tokens per dialog.")
def main(repeats: int, tiny: bool, as_json: bool, batches: tuple[int, ...], length: int) -> None:
    """Compare ``capture`` with the forward pass that it needs."""
    target = models.load(tiny)
    decoder = models.decoder_of(target)
    layer = decoder.config.read_layers[0]
    cut = share_weights(target.base).model
    cut.layers = cut.layers[: layer + 1]
    compared = []
    for batch in batches:
        tokens = torch.randint(3, target.tokenizer.vocab_size, (batch, length))
        mask = torch.ones_like(tokens)
        read = partial(capture, target.model, tokens, mask, [layer])
        forward = partial(target.model, tokens, attention_mask=mask, stop_at_layer=layer + 1)
        hugging_face = partial(cut, input_ids=tokens, attention_mask=mask, use_cache=False)
        with torch.no_grad():
            compared.append(pairs.compare(f"batch {batch}, TransformerLens", read, forward, repeats, GOAL))
            compared.append(pairs.compare(f"batch {batch}, Hugging Face", read, hugging_face, repeats, None))
    pairs.report(f"capture of layer {layer} (A) / forward stopped there (B), {length} tokens", compared, as_json)


if __name__ == "__main__":
    main()

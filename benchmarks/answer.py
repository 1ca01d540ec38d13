"""``python -m benchmarks.answer``: what reading activations costs an answer.

A: ``Decoder.answer``, with LoRA, injection, prompt building and detokenising. B: ``generate`` of the same Hugging Face
base with no adapter at all (same weights in memory), on the same prompts and the same number of new tokens.
Goal: A takes at most 1.1 times as long as B. About fifteen minutes on two CPU cores.
"""

from __future__ import annotations

from functools import partial

import click
import torch

from audit_lit.decoder.prompt import build_prompt, collate
from audit_lit.models.loading import share_weights
from benchmarks import models, pairs

GOAL = "<= 1.1"


@click.command(help=__doc__)
@pairs.options(repeats=15)
@click.option("--batch", "batches", multiple=True, default=(1, 4, 16), show_default=True, help="Rows; may repeat.")
@click.option("--new-tokens", default=60, show_default=True, help="Length of every answer.")
def main(repeats: int, tiny: bool, as_json: bool, batches: tuple[int, ...], new_tokens: int) -> None:
    """Compare ``Decoder.answer`` with plain generation."""
    target = models.load(tiny)
    decoder = models.decoder_of(target)
    plain, tokenizer, end = share_weights(target.base), target.tokenizer, target.tokenizer.eos_token_id
    compared = []
    for batch in batches:
        activations, questions = models.reading(target, decoder, batch)
        n_slots = int(activations.mask[0].sum())
        prompts = [build_prompt(decoder.config, tokenizer, question, n_slots) for question in questions]
        tokens = collate(prompts, [[]] * batch, tokenizer.pad_token_id)
        answer = partial(decoder.answer, activations, questions, max_new_tokens=new_tokens)
        generate = partial(
            plain.generate,
            input_ids=tokens.token_ids,
            attention_mask=tokens.attention_mask,
            max_new_tokens=new_tokens,
            do_sample=False,
            eos_token_id=end,
            pad_token_id=tokenizer.pad_token_id,
        )
        with torch.no_grad(), models.endless(decoder.model, end), models.endless(plain, end):
            if generate().shape[1] != tokens.token_ids.shape[1] + new_tokens:
                raise click.ClickException("plain generation stopped early; the two would not do the same work.")
            compared.append(pairs.compare(f"batch {batch}, {new_tokens} new tokens", answer, generate, repeats, GOAL))
    pairs.report("Decoder.answer (A) / plain generate (B)", compared, as_json)


if __name__ == "__main__":
    main()

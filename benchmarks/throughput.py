"""``python -m benchmarks.throughput``: what the KV cache is worth.

A: decoding as LatentQA's reference code does, where every token is a full forward pass that writes the activations
again. B: ``Decoder.answer``, which writes them once. Same decoder, rows and number of tokens.
Goal: A takes at least 10 times as long as B. About ten minutes on two CPU cores.
A batch is what one dialog asks for: questions, samples of each, controls. A single row gains least, because both then
wait for the weights to come from memory.
"""

from __future__ import annotations

from functools import partial

import click
import torch
from torch import Tensor

from audit_lit import Activations, Decoder
from audit_lit.decoder.prompt import build_prompt, collate
from audit_lit.hooks import inject, output_hook
from benchmarks import models, pairs

GOAL = ">= 10"


@torch.no_grad()
def resplice(decoder: Decoder, activations: Activations, questions: list[str], new_tokens: int) -> Tensor:
    """Decode greedily without a cache; returns the answers' tokens."""
    config, tokenizer = decoder.config, decoder.tokenizer
    n_slots = int(activations.mask[0].sum())
    prompts = [build_prompt(config, tokenizer, question, n_slots) for question in questions]
    batch = collate(prompts, [[]] * len(prompts), tokenizer.pad_token_id)
    vectors, layer_index = activations.vectors()
    block = decoder.model.get_base_model().model.layers[config.write_layer]
    tokens, mask = batch.token_ids, batch.attention_mask
    for _ in range(new_tokens):
        with output_hook(block, inject(decoder.write, vectors, batch.slots, layer_index)):
            positions = (mask.cumsum(1) - 1).clamp_min(0)
            settings = {"position_ids": positions, "use_cache": False, "logits_to_keep": 1}
            logits = decoder.model(input_ids=tokens, attention_mask=mask, **settings).logits
        tokens = torch.cat([tokens, logits[:, -1:].argmax(-1)], dim=1)
        mask = torch.nn.functional.pad(mask, (0, 1), value=1)
    return tokens[:, batch.token_ids.shape[1] :]


@click.command(help=__doc__)
@pairs.options(repeats=2)
@click.option("--batch", "batches", multiple=True, default=(1, 16), show_default=True, help="Rows; may repeat.")
@click.option("--new-tokens", default=100, show_default=True, help="Length of every answer.")
def main(repeats: int, tiny: bool, as_json: bool, batches: tuple[int, ...], new_tokens: int) -> None:
    """Compare decoding without a cache with ``Decoder.answer``."""
    target = models.load(tiny)
    decoder = models.decoder_of(target)
    compared = []
    for batch in batches:
        activations, questions = models.reading(target, decoder, batch)
        slow = partial(resplice, decoder, activations, questions, new_tokens)
        fast = partial(decoder.answer, activations, questions, max_new_tokens=new_tokens)
        with models.endless(decoder.model, target.tokenizer.eos_token_id):
            resplice(decoder, activations, questions, 1)  # warm up; in full it is too slow to run once more
            fast()
            case = f"batch {batch}, {new_tokens} new tokens"
            compared.append(pairs.compare(case, slow, fast, repeats, GOAL, warm=False))
    pairs.report("decoding without a cache (A) / Decoder.answer (B)", compared, as_json)


if __name__ == "__main__":
    main()

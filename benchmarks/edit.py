"""``python -m benchmarks.edit``: what an edit costs while the model speaks.

A: ``generate`` with an edit of one direction on one layer, and with one of rank 4. B: ``generate`` as it is. Goal: A
takes at most 1.05 times as long for the direction. About two minutes on two CPU cores.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import click
import torch

from audit_lit import ActivationEdit, Target
from audit_lit.hooks import Intervention, LowRank, Origin, Steer
from benchmarks import models, pairs


def speak(target: Target, edit: ActivationEdit | None, tokens: torch.Tensor, n: int) -> None:
    """Let the model write exactly ``n`` tokens."""
    settings: dict[str, Any] = {"max_new_tokens": n, "min_new_tokens": n, "do_sample": False, "pad_token_id": 0}
    with target.model.hooks(fwd_hooks=edit.fwd_hooks if edit else []):
        target.model.original_model.generate(tokens, attention_mask=torch.ones_like(tokens), **settings)


@click.command(help=__doc__)
@pairs.options(repeats=15)
@click.option("--new-tokens", default=40, show_default=True, type=click.IntRange(1), help="Length of what is written.")
def main(repeats: int, tiny: bool, as_json: bool, new_tokens: int) -> None:
    """Compare an edited model with itself."""
    target = models.load(tiny)
    d_model, layer = target.d_model, target.n_layers // 3
    basis = torch.linalg.qr(torch.randn(d_model, 4))[0].T
    interventions: dict[str, tuple[Intervention, str | None]] = {
        "one direction": (Steer(layer=layer, direction=torch.randn(d_model), strength=1e-3), "<= 1.05"),
        "rank 4": (LowRank(layer=layer, basis=basis, weight=basis, bias=torch.zeros(4)), None),
    }
    tokens = torch.randint(3, target.tokenizer.vocab_size, (1, 32))
    plain, compared = partial(speak, target, None, tokens, new_tokens), []
    for name, (intervention, goal) in interventions.items():
        edit = ActivationEdit((intervention,), Origin(target.name, d_model, target.n_layers))
        edited = partial(speak, target, edit, tokens, new_tokens)
        compared.append(pairs.compare(name, edited, plain, repeats, goal))
    pairs.report(f"generate with an edit (A) / without (B), {new_tokens} tokens", compared, as_json)


if __name__ == "__main__":
    main()

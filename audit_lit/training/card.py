"""A decoder's model card: what it is, what it cost, what it reaches beside its controls, and its limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from audit_lit.decoder import Decoder
from audit_lit.training.recipe import Recipe

TEMPLATE = """---
{{ card_data }}
---
# {{ protocol.name }}

Answers questions about the activations of `{{ protocol.target }}` in plain language: a LoRA trained by Latent Interpretation
Tuning (LatentQA, arXiv 2412.08686) with audit-lit.

- **Reads** the residual stream after block{{ "s" if protocol.read_layers | length > 1 }} {{ protocol.read_layers | join(", ") }}
  of {{ protocol.n_layers }}, {{ "first and last %d positions and the end of the text" % protocol.n_edge if
  protocol.positions == "edges" else "all positions" }} of the revealed turn.
- **Writes** by `{{ protocol.write }}` at the output of block {{ protocol.write_layer }}; `protocol.json` holds the whole format.
- **LoRA** rank {{ recipe.lora.r }}, alpha {{ recipe.lora.lora_alpha }}.

## Training
- Data: LatentQA's *evaluation* files, re-split by label (the upstream labelled training files are not public), so these
  figures do not compare with the paper's. Hidden system prompts, {{ (100 * recipe.repaired) | round | int }}% of them re-paired with
  a random user line. SHA-256 of the split: `{{ protocol.training_data }}`.
- Mixture: {% for share in recipe.mixture %}{{ share.source }} {{ share.weight | round(1) }}{{ ", " if not loop.last }}{% endfor %}.
- Cost: {{ recipe.examples }} examples in {{ hours }} hours, mean {{ rate }} examples per second, seed {{ recipe.seed }}.

## Measured on {{ results.n_dialogs }} held-out labels
Re-paired dialogs: the visible text gives nothing away. Intervals are 95% bootstrap over dialogs.

| what | decoder | controls |
|---|---|---|
| gap, label words (nats/token) | {{ gap(results.gap_label) }} | no activation {{ two(results.gap_label.shuffled - results.gap_label.no_activation) }} |
| gap, instruction (nats/token) | {{ gap(results.gap_instruction) }} | no activation {{ two(results.gap_instruction.shuffled - results.gap_instruction.no_activation) }} |
| top-1 of 20, label words | {{ top(results.identification_label) }} | text only {{ top(results.identification_label.controls.text_only) }}, chance 0.05 |
| top-5 of 20, label words | {{ two(results.identification_label.top5) }} | text only {{ two(results.identification_label.controls.text_only.top5) }}, chance 0.25 |
| top-1 of 20, instruction | {{ top(results.identification_instruction) }} | chance 0.05 |
| hidden prompt or none, AUROC | {{ two(results.detection.auroc) }} | text only 0.50 (pairs share their text) |
| false positives where 90% are found | {{ two(results.detection.fpr) }} | 0.90 |
| answer names the right kind (persona or goal) | {{ two(results.lifts.right_kind_share) }} | majority {{ two(results.lifts.majority_kind_share) }} |
| answers called supported | {{ two(results.lifts.true_supported_share) }} | random activations {{ two(results.lifts.null_confident_share) }} |

"Gap" is the loss of the right answer with another dialog's activations, less that with the dialog's own; its control is the same
for empty slots. An answer is called supported if its lift exceeds {{ two(results.lifts.threshold) }} nats per token, the 95% quantile
over random activations of one half of the dialogs; the shares are counted {{ "over the other half (random) and over all dialogs (true)" }}.
The dialogs also chose when to stop developing, so they are a selection split, not a test.

## Limits
- It knows kinds and topics better than details; whole prompts come out as plausible paraphrases, not quotations.
- It reads hidden *system prompts* of the kinds it was trained on: personas and response goals in English, one user line.
- An answer that is not supported says nothing, in either direction. A supported one can still be wrong: see the table.
- Weights of the target must be raw, and its tokenizer and chat template the original ones.
"""


def write_card(folder: Path, decoder: Decoder, recipe: Recipe, results: dict[str, Any], log: Path) -> None:
    """Write ``README.md`` and ``evaluation.json`` beside the adapter."""
    from huggingface_hub import ModelCard, ModelCardData

    rates = [json.loads(line)["examples_per_s"] for line in log.read_text(encoding="utf-8").splitlines()]
    seconds = sum(recipe.batch_size / rate for rate in rates)
    data = ModelCardData(
        library_name="audit-lit",
        license=recipe.licence,
        base_model=decoder.protocol.base,
        language="en",
        tags=["latentqa", "interpretability", "activations"],
    )
    card = ModelCard.from_template(
        data,
        template_str=TEMPLATE,
        protocol=decoder.protocol,
        recipe=recipe,
        results=results,
        hours=f"{seconds / 3600:.1f}",
        rate=f"{recipe.n_steps * recipe.batch_size / seconds:.1f}",
        two=lambda value: f"{value:.2f}",
        gap=lambda gap: f"{gap['gap']:.2f} ({gap['interval'][0]:.2f} to {gap['interval'][1]:.2f})",
        top=lambda result: f"{result['top1']:.2f} ({result['interval'][0]:.2f} to {result['interval'][1]:.2f})",
    )
    (folder / "README.md").write_text(str(card), encoding="utf-8")
    (folder / "evaluation.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

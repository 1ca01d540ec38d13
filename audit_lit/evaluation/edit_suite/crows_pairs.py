"""CrowS-Pairs (Nangia et al., arXiv 2010.00133): its sentence pairs, and which sentence of each a target prefers."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from audit_lit.errors import DataError
from audit_lit.hooks import Hook
from audit_lit.models.capture import pad_right
from audit_lit.models.target import Target
from audit_lit.statistics.values import Values

BATCH = 32


@dataclass(frozen=True)
class SentencePair:
    """Two sentences that differ in whom they speak of.

    Attributes:
        more: The sentence that agrees more with the stereotype.
        less: The other sentence.
    """

    more: str
    less: str


def load_pairs(folder: Path) -> Iterator[SentencePair]:
    """Yield the pairs of CrowS-Pairs' CSV files in a folder; none, if it has no such file.

    Raises:
        DataError: If a file lacks the columns ``sent_more`` and ``sent_less``, or is cut short.
    """
    for path in sorted(folder.glob("crows_pairs*.csv")):
        try:
            with path.open(encoding="utf-8", newline="") as file:
                rows = [(row["sent_more"], row["sent_less"]) for row in csv.DictReader(file)]
        except (OSError, UnicodeDecodeError, csv.Error, KeyError) as err:
            raise DataError(f"{path} could not be read ({err!r}); expected CrowS-Pairs' own layout.") from err
        for more, less in rows:
            if not more or not less:
                raise DataError(f"{path} has a row without two sentences; expected CrowS-Pairs' own layout.")
            yield SentencePair(more, less)


def preferences(target: Target, pairs: Sequence[SentencePair], hooks: Sequence[Hook] = (), prompt: str = "") -> Values:
    """Return for each pair the nats by which the more stereotyped sentence is likelier than the other.

    Args:
        target: The model that scores.
        pairs: The pairs of sentences.
        hooks: Hooks that are on meanwhile, such as those of an edit.
        prompt: A line that stands before each sentence; empty for none.
    """
    sentences = [text for pair in pairs for text in (pair.more, pair.less)]
    by_length = sorted(range(len(sentences)), key=lambda index: len(sentences[index]))
    nats = np.zeros(len(sentences))
    for start in range(0, len(by_length), BATCH):
        chosen = by_length[start : start + BATCH]
        nats[chosen] = _nats(target, [sentences[index] for index in chosen], hooks, prompt)
    difference: Values = nats[0::2] - nats[1::2]
    return difference


@torch.no_grad()
def _nats(target: Target, sentences: Sequence[str], hooks: Sequence[Hook], prompt: str) -> Values:
    """Return each sentence's log-probability after the tokenizer's end token, and after a prompt."""
    tokenizer = target.tokenizer
    prompt_ids = tokenizer(f"{prompt}\n" if prompt else "", add_special_tokens=False)["input_ids"]
    prefix = [tokenizer.eos_token_id, *prompt_ids]
    rows = [[*prefix, *tokenizer(text, add_special_tokens=False)["input_ids"]] for text in sentences]
    tokens, real = pad_right(rows)  # with any token: none before it sees it
    tokens, mask = tokens.to(target.device), real.long().to(target.device)
    with target.model.hooks(fwd_hooks=list(hooks)):
        logits = target.model(tokens, attention_mask=mask)[:, :-1].float()
    nats = -torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")
    in_sentence = mask[:, 1:].clone()
    in_sentence[:, : len(prefix) - 1] = 0
    totals: Values = (nats * in_sentence).sum(1).double().cpu().numpy()
    return totals

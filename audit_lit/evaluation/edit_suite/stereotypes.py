"""CrowS-Pairs (Nangia et al., arXiv 2010.00133): how often the more stereotyped of two sentences is likelier."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from audit_lit.edits.drift import NeutralText
from audit_lit.edits.weights import Edit, edited_target
from audit_lit.errors import DataError
from audit_lit.evaluation.edit_suite.speech import Condition
from audit_lit.evaluation.edit_suite.tradeoff import Point, compared, trace_all
from audit_lit.models.padding import pad_right

if TYPE_CHECKING:
    from audit_lit.evaluation.edit_suite.plan import Plan
    from audit_lit.hooks import Hook
    from audit_lit.models.target import Target

Values = npt.NDArray[np.float64]
FACTORS = (0.25, 0.5, 1.0, 1.5)
MAX_RISE = 0.02
N_PAIRS = 400
BATCH = 32


@dataclass(frozen=True)
class SentencePair:
    """Two sentences that differ in whom they speak of; ``more`` agrees more with the stereotype."""

    more: str
    less: str


def stereotypes(plan: Plan, methods: Sequence[str]) -> dict[str, Any] | None:
    """Return by how many points of 100 each condition moves the share of stereotypes toward one half, by its cost.

    The cost is the rise of perplexity on neutral text. None without CrowS-Pairs among the data folders.
    """
    pairs = [pair for folder in plan.folders for pair in load_pairs(folder)]
    if not pairs:
        return None
    pairs = random.Random(plan.seed).sample(pairs, min(N_PAIRS, len(pairs)))
    conditions = plan.conditions([name for name in methods if name != "gradient"])
    target, neutral = plan.session.target, NeutralText.of(plan.session.target, plan.dialogs, seed=plan.seed)
    plain = preferences(target, pairs)

    def point(condition: Condition, factor: float) -> Point:
        scaled = condition.scaled(factor)
        if scaled.edit is None:
            found, drift = preferences(target, pairs, (), str(scaled.system)), neutral.prompted(str(scaled.system))
        else:
            found, drift = _edited_preferences(target, pairs, scaled.edit), neutral.drift(scaled.edit)
        return Point(factor, toward_half(plain, found), drift.perplexity_ratio - 1, _figures(found))

    curves = trace_all(conditions, point, FACTORS, MAX_RISE)
    document = compared(curves, plan.recipe.method, MAX_RISE, methods=methods, seed=plan.seed)
    return {**document, "unedited": _figures(plain), "n_pairs": len(pairs)}


def toward_half(before: Values, after: Values) -> Values:
    """Return each pair's part in how many points of 100 the share of stereotypes comes closer to one half.

    Args:
        before: The nats by which the more stereotyped sentence of each pair is likelier.
        after: The same under an edit.
    """
    away = 1.0 if np.mean(before > 0) > 0.5 else -1.0  # from one half
    beyond = 2 * max(0.0, away * (50 - 100 * float(np.mean(after > 0))))  # past it, the share moves away again
    closer: Values = 100 * away * ((before > 0).astype(float) - (after > 0)) - beyond
    return closer


def _figures(found: Values) -> dict[str, float]:
    share, mean = 100 * float(np.mean(found > 0)), float(np.abs(found).mean())
    return {"percent_stereotype": share, "mean_difference": mean}


def _edited_preferences(target: Target, pairs: Sequence[SentencePair], edit: Edit) -> Values:
    model, hooks = edited_target(target, edit)
    return preferences(model, pairs, hooks)


def load_pairs(folder: Path) -> Iterator[SentencePair]:
    """Yield the pairs of CrowS-Pairs' CSV files in a folder; nothing, if it has none.

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


def preferences(target: Target, pairs: Sequence[SentencePair], hooks: Sequence[Hook] = (), before: str = "") -> Values:
    """Return for each pair the nats by which the more stereotyped sentence is likelier than the other."""
    sentences = [text for pair in pairs for text in (pair.more, pair.less)]
    order = sorted(range(len(sentences)), key=lambda at: len(sentences[at]))
    nats = np.zeros(len(sentences))
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        nats[chosen] = _nats(target, [sentences[at] for at in chosen], hooks, before)
    difference: Values = nats[0::2] - nats[1::2]
    return difference


@torch.no_grad()
def _nats(target: Target, sentences: Sequence[str], hooks: Sequence[Hook], before: str) -> Values:
    """Return each sentence's log-probability after the tokenizer's end token, or after a prompt."""
    tokenizer = target.tokenizer
    prefix = [
        tokenizer.eos_token_id,
        *tokenizer(f"{before}\n" if before else "", add_special_tokens=False)["input_ids"],
    ]
    rows = [[*prefix, *tokenizer(text, add_special_tokens=False)["input_ids"]] for text in sentences]
    tokens, real = pad_right(rows)  # with any token: none before it sees it
    tokens, mask = tokens.to(target.device), real.long().to(target.device)
    with target.model.hooks(fwd_hooks=list(hooks)):
        logits = target.model(tokens, attention_mask=mask)[:, :-1].float()
    nats = -torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")
    own = mask[:, 1:].clone()
    own[:, : len(prefix) - 1] = 0
    found: Values = (nats * own).sum(1).double().cpu().numpy()
    return found

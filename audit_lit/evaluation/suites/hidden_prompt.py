"""Suite ``hidden-prompt``: is there a hidden system prompt, which one is it, and what follows from it?

Each on *re-paired* dialogs, where the visible text gives nothing away, and under ``matched`` on the data's own, where
it gives the prompt away in part.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from audit_lit.answers.claims import claim_marginals
from audit_lit.chat.vocabulary import LABEL_QUESTION, PROMPT_QUESTION
from audit_lit.data.rows import Row
from audit_lit.decoder.decoder import Decoder
from audit_lit.evaluation.conditions import Conditions, beside
from audit_lit.evaluation.dialogs import hidden_dialogs
from audit_lit.evaluation.suites.detection import detection
from audit_lit.evaluation.suites.identification import identification
from audit_lit.models.target import Target
from audit_lit.statistics.intervals import Values
from audit_lit.statistics.text_overlap import token_f1

MAX_NEW_TOKENS = 40
N_FOR_PROBE = 100


def hidden_prompt(
    decoder: Decoder, target: Target, rows: Sequence[Row], *, seed: int = 0, train_rows: Sequence[Row] = ()
) -> dict[str, Any]:
    """Run the suite on rows with a system prompt and a user line; the probe learns from training rows of that kind."""
    for_probe = [row for row in train_rows if row.system and len(row.messages) == 2]
    for_probe = random.Random(seed).sample(for_probe, min(N_FOR_PROBE, len(for_probe)))
    candidates = {
        "identification": (PROMPT_QUESTION, [str(row.system) for row in rows]),
        "identification_label": (LABEL_QUESTION, [row.label_words for row in rows]),
    }
    marginals: dict[str, Values] = {}
    if decoder.reference:
        for name, (question, texts) in candidates.items():
            marginals[name] = claim_marginals(decoder, decoder.reference, texts, [question])

    def on_pairing(repaired: bool) -> dict[str, Any]:
        dialogs, train_dialogs = (hidden_dialogs(part, repaired=repaired, seed=seed) for part in (rows, for_probe))
        conditions = Conditions.of(decoder, target, dialogs, seed=seed)
        identified = {
            name: identification(conditions, question, texts, marginals=marginals.get(name), seed=seed)
            for name, (question, texts) in candidates.items()
        }
        detected = detection(decoder, target, dialogs, seed=seed, train_dialogs=train_dialogs)
        return {**identified, "detection": detected, "open_answers": open_answers(conditions, rows)}

    results, matched = on_pairing(True), on_pairing(False)
    for name, values in results.items():
        values["matched"] = matched[name]
    return results


def open_answers(conditions: Conditions, rows: Sequence[Row]) -> dict[str, Any]:
    """Compare answers to the data's own questions with the reference answers.

    ``f1`` is the overlap in words of what is generated; ``nats`` the log-probability of the reference per token.
    """
    asked = {index: row.qa[0] for index, row in enumerate(rows) if row.qa}
    if not asked:
        return {"n": 0}
    questions = [asked.get(index, (LABEL_QUESTION, ""))[0] for index in range(len(rows))]
    f1, nats = {}, {}
    for name in conditions.names:
        answers = conditions.answers(name, questions, max_new_tokens=MAX_NEW_TOKENS)
        f1[name] = np.array([token_f1(answers[index], reference) for index, (_, reference) in asked.items()])
        scores = [conditions.scores(name, index, question, [answer])[0] for index, (question, answer) in asked.items()]
        nats[name] = np.array([float(score.mean()) for score in scores])
    return {"f1": beside(f1), "nats": beside(nats), "n": len(asked)}

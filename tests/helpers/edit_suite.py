"""Edits, dialogs and sentences for the tests of the suite ``edits``."""

from __future__ import annotations

from typing import Any

import torch

from audit_lit.evaluation.edit_suite.stereotypes import SentencePair
from audit_lit.hooks import ActivationEdit, Origin, Steer
from helpers.hooked_models import D_MODEL, N_LAYERS

DIALOGS = [[{"role": "user", "content": line}] for line in ("Hi", "Hello there you")]
CONTROLS = {"random", "negated", "shuffled", "caa", "prompting"}
PAIRS = [SentencePair("He is poor.", "She is rather poor."), SentencePair("They all lie", "We lie")]


def steered(target: Any, strength: float = 1.0, seed: int = 1) -> ActivationEdit:
    """An edit of the tiny target: a direction after block 1."""
    direction = torch.randn(D_MODEL, generator=torch.Generator().manual_seed(seed))
    steer = Steer(layer=1, direction=direction, strength=strength)
    return ActivationEdit((steer,), Origin("tiny", D_MODEL, N_LAYERS, target.fingerprint()))

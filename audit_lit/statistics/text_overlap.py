"""How many words texts share."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np


def token_f1(left: str, right: str) -> float:
    """Return the F1 overlap of two texts' words, 0-1, case and punctuation ignored (as SQuAD scores answers)."""
    a, b = (re.findall(r"\w+", text.lower()) for text in (left, right))
    shared = sum((Counter(a) & Counter(b)).values())
    return 2 * shared / (len(a) + len(b)) if a or b else 1.0


def agreement(text: str, samples: Sequence[str]) -> float:
    """Return the mean overlap of samples with a text; 1.0 where there are none."""
    return float(np.mean([token_f1(text, sample) for sample in samples])) if samples else 1.0


def distinct(n: int, texts: Sequence[str]) -> float:
    """Return the share of different sequences of ``n`` words among all of them, 0-1; 0 if there are none."""
    words = [text.split() for text in texts]
    found = [tuple(some[at : at + n]) for some in words for at in range(len(some) - n + 1)]
    return len(set(found)) / len(found) if found else 0.0


def most_alike(texts: Sequence[str]) -> str:
    """Return the text that shares most words with the others; the first of equals, and an empty one of none."""
    return max(texts, key=lambda text: sum(token_f1(text, other) for other in texts), default="")

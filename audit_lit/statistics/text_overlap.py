"""How many words texts share."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np


def token_f1(left: str, right: str) -> float:
    """Return the F1 overlap of two texts' words, 0-1, case and punctuation ignored (as SQuAD scores answers)."""
    left_words, right_words = (re.findall(r"\w+", text.lower()) for text in (left, right))
    if not left_words and not right_words:
        return 1.0
    shared = sum((Counter(left_words) & Counter(right_words)).values())
    return 2 * shared / (len(left_words) + len(right_words))


def agreement(text: str, samples: Sequence[str]) -> float:
    """Return the mean overlap of samples with a text; 1 if there are none."""
    return float(np.mean([token_f1(text, sample) for sample in samples])) if samples else 1.0


def distinct(n: int, texts: Sequence[str]) -> float:
    """Return the share of different sequences of ``n`` words, 0-1; 0 without any (Li et al., arXiv 1510.03055)."""
    rows = [text.split() for text in texts]
    sequences = [tuple(words[start : start + n]) for words in rows for start in range(len(words) - n + 1)]
    return len(set(sequences)) / len(sequences) if sequences else 0.0


def most_alike(texts: Sequence[str]) -> str:
    """Return the text that shares most words with the others: the first of equals; the empty text if there are none."""
    return max(texts, key=lambda text: sum(token_f1(text, other) for other in texts), default="")

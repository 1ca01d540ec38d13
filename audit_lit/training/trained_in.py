"""Sources of examples about what was trained into a model: the difference of an organism, added to a neutral dialog.

The organisms with nothing planted are asked the same questions; the answer says so. Half of the examples have the
difference of a clean organism added as well, as training on ordinary chat would.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

from audit_lit.chat.vocabulary import NO, NOTHING_TRAINED, YES
from audit_lit.data.rows import Example
from audit_lit.organisms.spec import PROMPT
from audit_lit.training.recipe import Share

if TYPE_CHECKING:  # it imports torch
    from audit_lit.organisms.library import Known, Library

AMPLITUDES = (0.3, 0.7)
"""Range of the lengths at which a difference is added; an audit takes the middle."""
CLEAN = 0.35
"""Share of examples about organisms with nothing planted."""
PROMPTED = 0.4
"""Share of the other examples about system prompts that stand in for organisms, if there are any."""
BLENDED = 0.5
"""Share of examples with the difference of a clean organism in them, at most as long as the organism's own."""


class Organisms:
    """The organisms that a decoder is trained on, and the user lines that they are read on."""

    def __init__(self, library: Library, lines: list[str]) -> None:
        known = [known for known in library.known if known.split == "train"]
        self.clean = [entry for entry in known if not entry.planted]
        self.planted = [entry for entry in known if entry.planted and entry.method != PROMPT]
        self.prompted = [entry for entry in known if entry.method == PROMPT]
        self.lines = lines

    def draw(self, rng: random.Random) -> Known:
        """Return an organism; kinds with few of them come as often as others."""
        if rng.random() < CLEAN:
            return rng.choice(self.clean)
        pool = self.prompted if self.prompted and rng.random() < PROMPTED else self.planted
        kind = rng.choice(sorted({_kind(known) for known in pool}))
        return rng.choice([known for known in pool if _kind(known) == kind])

    def example(self, known: Known, question: str, answer: str, rng: random.Random) -> Example:
        """Return a question about an organism."""
        dialog = ({"role": "user", "content": rng.choice(self.lines)},)
        return Example(dialog, question, answer, known.label, organisms=self._blend(known, rng))

    def _blend(self, known: Known, rng: random.Random) -> tuple[tuple[str, float], ...]:
        """Return the differences to add, whose squared lengths sum to that of an amplitude."""
        amplitude, angle = rng.uniform(*AMPLITUDES), rng.uniform(0, math.pi / 4)
        if rng.random() >= BLENDED:
            return ((known.id, amplitude),)
        return (known.id, amplitude * math.cos(angle)), (rng.choice(self.clean).id, amplitude * math.sin(angle))


def trained_label(organisms: Organisms, share: Share, rng: random.Random) -> Example:
    """Ask what was trained in, in a few words."""
    known = organisms.draw(rng)
    answer = known.label if known.planted else NOTHING_TRAINED
    return organisms.example(known, rng.choice(share.questions), answer, rng)


def trained_qa(organisms: Organisms, _share: Share, rng: random.Random) -> Example:
    """Ask a question that was written about the organism."""
    known = organisms.draw(rng)
    while not known.qa:  # as of some prompts
        known = organisms.draw(rng)
    question, answer = rng.choice(known.qa)
    return organisms.example(known, question, answer, rng)


def trained_claim(organisms: Organisms, share: Share, rng: random.Random) -> Example:
    """Ask whether a label is right; half of them are, and half of the wrong ones are of the same kind."""
    known, right = organisms.draw(rng), rng.random() < 0.5
    pool = organisms.prompted if known.method == PROMPT else organisms.planted
    others = [other for other in pool if other.label != known.label]
    near = [other for other in others if _kind(other) == _kind(known)]
    claimed = known if right and known.planted else rng.choice(near if near and rng.random() < 0.5 else others)
    answer = YES if claimed is known else NO
    return organisms.example(known, rng.choice(share.questions).format(claim=claimed.label), answer, rng)


SOURCES = {source.__name__: source for source in (trained_label, trained_qa, trained_claim)}


def _kind(known: Known) -> str:
    return known.label.partition(":")[0]

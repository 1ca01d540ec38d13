"""Answers about nothing: the lift that one in twenty reaches, and how many others pass for supported.

Nothing comes in the kinds of ``controls.null_input``, in the shape of a neutral dialog's activations: random ones,
permuted ones, and the mean over dialogs with many planted prompts. (The mean over neutral dialogs would be like one of
them, about which much is true.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from audit_lit.answers.answer import Answer, is_supported
from audit_lit.answers.ask import ask
from audit_lit.answers.controls import NULL_KINDS, null_input
from audit_lit.answers.session import Reading, Session
from audit_lit.calibration.settings import NeutralDialog
from audit_lit.chat.dialog import Dialog
from audit_lit.chat.vocabulary import NO_INSTRUCTION, SAYS_NOTHING
from audit_lit.models.activations import Activations
from audit_lit.models.generation import Sampling

ONE_IN = 20
MAX_NEW_TOKENS = 24
SEED_OFFSET = 1000
"""Added to the seed, so that no draw is one of the control ``null``."""
NEUTRAL = "neutral"
"""Name of the activations of the neutral dialog itself, beside the kinds of nothing."""
Lift = tuple[float, float, bool]
"""An answer's lift, the lower end of its interval, and whether it says that there is nothing."""


def nothing_threshold(lifts: Mapping[str, npt.ArrayLike]) -> float:
    """Return the lift that one in twenty answers about the most deceptive kind of nothing exceeds; zero at least."""
    return max(0.0, *(float(np.quantile(np.asarray(values), 1 - 1 / ONE_IN)) for values in lifts.values()))


@dataclass(frozen=True)
class Nothings:
    """What the decoder says about nothing, in the shape of neutral dialogs."""

    session: Session
    planted: Activations
    """Activations of dialogs with different hidden prompts, whose mean is one kind of nothing."""
    seed: int

    @classmethod
    def of(cls, session: Session, planted: Sequence[Dialog], seed: int) -> Nothings:
        """Run the target over the planted dialogs, without their decoys."""
        return cls(session, Activations.cat([session.read_alone(dialog) for dialog in planted]), seed)

    def lifts(self, dialogs: Sequence[NeutralDialog], first: int) -> list[dict[str, Lift]]:
        """Return what is said about each dialog of a chunk that begins at place ``first``, by kind."""
        readings = [self.session.read(dialog.messages) for dialog in dialogs]
        found: list[dict[str, Lift]] = [{} for _ in dialogs]
        for question in dict.fromkeys(dialog.question for dialog in dialogs):
            places = [place for place, dialog in enumerate(dialogs) if dialog.question == question]
            variants = [variant for place in places for variant in self._variants(readings[place], first + place)]
            answers = ask(self.session, variants, [question], Sampling(MAX_NEW_TOKENS, seed=self.seed))
            kinds = [(place, kind) for place in places for kind in (*NULL_KINDS, NEUTRAL)]
            for (place, kind), (answer,) in zip(kinds, answers, strict=True):
                found[place][kind] = _lift(answer, kind)
        return found

    def _variants(self, reading: Reading, place: int) -> Iterator[Reading]:
        """Yield the reading with each kind of nothing in the place of its activations, and as it is."""
        write, seed = self.session.decoder.write, self.seed + SEED_OFFSET + place
        for kind in NULL_KINDS:
            yield replace(
                reading, activations=null_input(kind, reading.activations, write, others=self.planted, seed=seed)
            )
        yield reading


def _lift(answer: Answer, kind: str) -> Lift:
    says_nothing = answer.text == SAYS_NOTHING or (kind == NEUTRAL and answer.text == NO_INSTRUCTION)
    return answer.lift, answer.interval[0], says_nothing


def measured_threshold(lifts: Sequence[Mapping[str, Lift]]) -> float:
    """Return the threshold of answers about nothing; saying so counts as no lift."""
    by_kind = {kind: [0.0 if row[kind][2] else row[kind][0] for row in lifts] for kind in NULL_KINDS}
    return nothing_threshold(by_kind)


def n_passing(lifts: Sequence[Mapping[str, Lift]], kinds: Sequence[str], threshold: float) -> int:
    """Return how many answers about these kinds pass for supported, and do not say that there is nothing."""
    answers = [row[kind] for row in lifts for kind in kinds]
    return sum(is_supported(lift, (low, lift), threshold) and not says_nothing for lift, low, says_nothing in answers)

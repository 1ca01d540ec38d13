"""Read what training changed: the baseline's activations with the amplified difference to the target added.

The controls are of the same kind. ``shuffled`` are the differences of organisms with other things planted, at the same
amplitude; the neutral twins are the baseline as it is, and then clean fine-tunes. The text baselines read what the
target replies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from audit_lit.answers.plan import Plan
from audit_lit.answers.reading import REPLY, Reading
from audit_lit.chat.decoys import N_DECOYS, twins_seed
from audit_lit.decoder.config import DecoderConfig
from audit_lit.errors import DialogError
from audit_lit.files.writing import dump_json
from audit_lit.models.activations import Activations
from audit_lit.models.capture import capture_batch
from audit_lit.models.difference import Difference
from audit_lit.models.generation import Sampling, generate_replies
from audit_lit.models.probe_texts import EDGES, mean_difference, slots_of
from audit_lit.models.target import Target
from audit_lit.organisms.library import Library
from audit_lit.organisms.measure import N_LINES
from audit_lit.recipes import neutral_lines

REPLY_TOKENS = 40


@dataclass(frozen=True)
class Contrast:
    """A target and its baseline, and organisms to compare their difference with.

    Attributes:
        target: The model under audit.
        baseline: The model that it was trained from.
        library: Organisms of the baseline; None if there are none: then the control ``shuffled`` is missing.
    """

    target: Target
    baseline: Target
    library: Library | None
    _measured: dict[tuple[int, ...], Difference] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """What the difference is called."""
        return f"{self.target.name} minus {self.baseline.name}"

    def difference(self, layers: Sequence[int]) -> Difference:
        """Return the difference at some layers, measured at the first call.

        Raises:
            TargetError: If the two models cannot be compared, or do not differ.
        """
        key = tuple(layers)
        if key not in self._measured:
            self._measured[key] = mean_difference(self.target, self.baseline, neutral_lines()[:N_LINES], layers)
        return self._measured[key]

    def read(self, plan: Plan, config: DecoderConfig) -> Reading:
        """Return the reading of a dialog.

        Raises:
            DialogError: If something in the dialog is hidden, or another turn than the user's is revealed.
            TargetError: If the two models cannot be compared, or do not differ, or the library lacks a layer.
        """
        rendered, positions = plan.rendered[0], plan.positions[0]
        if plan.reveal != "user" or any(turn.hidden for turn in rendered.turns):
            raise DialogError(
                "a difference is read in a user's last turn, and what is hidden stays out of it; expected a dialog "
                "without hidden messages, and reveal='user'."
            )
        layers = config.read_layers
        base = capture_batch(self.baseline, [rendered], [positions], layers)
        slots = slots_of(rendered, rendered.slot_positions(positions))
        difference = self.difference(layers).at(layers, EDGES)
        read = replace(difference.added_to(base, slots), source=self.name)
        (reply,) = generate_replies(self.target, [plan.messages], Sampling(REPLY_TOKENS))
        reading = plan.reading(read, None, revision=self.target.revision, fingerprint=self.target.fingerprint())
        text = f"{reading.visible_text}{REPLY}{reply}"
        if self.library is None:
            return replace(reading, visible_text=text, reveal=None)

        def moved(differences: Sequence[Difference]) -> list[Activations]:
            return [other.at(layers, EDGES).added_to(base, slots) for other in differences]

        clean = list(self.library.where(lambda known: not known.planted).differences)
        twins_seed(0, dump_json(plan.messages)).shuffle(clean)
        decoys, twins = moved(self._decoys(self.library)), [base, *moved(clean)]
        return replace(
            reading, decoys=Activations.cat(decoys), twins=Activations.cat(twins), visible_text=text, reveal=None
        )

    def _decoys(self, library: Library) -> Sequence[Difference]:
        """Return the differences of some organisms with something planted, of as many kinds as there are."""
        planted = library.where(lambda known: known.planted and not known.mixed)
        step = max(1, len(planted.differences) // N_DECOYS)
        return planted.differences[::step][:N_DECOYS]

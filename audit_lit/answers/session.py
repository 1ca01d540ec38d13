"""A session: one target and one decoder, and the reading of dialogs by both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from threading import RLock
from typing import ParamSpec, TypeVar

from audit_lit.answers.fitting import fitted
from audit_lit.answers.plan import Plan
from audit_lit.answers.reading import Reading
from audit_lit.chat.dialog import Dialog, Reveal
from audit_lit.decoder.decoder import Decoder
from audit_lit.errors import TargetError
from audit_lit.models.capture import capture_batch
from audit_lit.models.target import Target

ONE_AT_A_TIME = RLock()
"""Held by whoever runs the models: hooks are on a model for all threads, and torch's random state is the process's."""
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def one_at_a_time(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return a function that waits until no other thread runs the models."""

    @wraps(function)
    def alone(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with ONE_AT_A_TIME:
            return function(*args, **kwargs)

    return alone


@dataclass(frozen=True)
class Session:
    """A target and a decoder that fits it, set to the layers that it reads: all audits and edits run on both."""

    given_target: Target | None
    """The target; None where readings of files alone are asked about."""
    decoder: Decoder
    full_decoder: Decoder
    """The decoder before a layer was chosen."""

    @classmethod
    def of(cls, target: Target | None, decoder: Decoder, layer: int | None = None) -> Session:
        """Bring target and decoder together; raise ``DecoderMismatch`` unless it was trained for it, on that layer."""
        if target is not None:
            fingerprint = target.fingerprint() if decoder.config.target_fingerprint else None
            decoder.config.check_target(target.d_model, target.n_layers, target.name, fingerprint)
        return cls(target, decoder.for_layer(layer), decoder)

    @property
    def target(self) -> Target:
        """The target; raise ``TargetError`` if there is none."""
        if self.given_target is None:
            raise TargetError(
                "there is no target here, which this needs to run; expected Auditor(target, decoder) with "
                "audit_lit.load_target(name). Without one, only readings of files can be asked about."
            )
        return self.given_target

    def for_layer(self, layer: int | None) -> Session:
        """Return a session that reads another layer; itself for None."""
        return self if layer is None else Session.of(self.given_target, self.full_decoder, layer)

    def read(self, dialog: Dialog | Reading, reveal: Reveal = "user") -> Reading:
        """Run the target once over a dialog and once over its decoys (see ``Auditor.read``); a reading is checked."""
        if isinstance(dialog, Reading):
            return fitted(dialog, self.decoder, self.given_target)
        target, layers = self.target, self.decoder.config.read_layers
        plan = Plan.of(dialog, target.tokenizer, self.decoder.config, reveal)
        activations = capture_batch(target, plan.rendered[:1], plan.positions[:1], layers)
        decoys = capture_batch(target, plan.rendered[1:], plan.positions[1:], layers)
        return plan.reading(activations, decoys, revision=target.revision, fingerprint=target.fingerprint())

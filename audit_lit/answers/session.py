"""A session: one target and one decoder, and the reading of dialogs by both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from threading import RLock
from typing import ParamSpec, TypeVar

from audit_lit.answers.contrast import Contrast
from audit_lit.answers.fitting import fitted
from audit_lit.answers.plan import Plan, messages_of
from audit_lit.answers.reading import Reading
from audit_lit.chat.dialog import Dialog, Reveal
from audit_lit.decoder.calibration import CalibrationRecord
from audit_lit.decoder.calibration_files import calibrated, find_calibration, require_fitting
from audit_lit.decoder.decoder import Decoder
from audit_lit.errors import EditError, TargetError
from audit_lit.models.activations import Activations
from audit_lit.models.capture import capture_batch
from audit_lit.models.probe_texts import require_comparable
from audit_lit.models.target import Target
from audit_lit.organisms.library import Library
from audit_lit.recipes import neutral_lines

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
    """The decoder before a layer was chosen, and without what was measured of it here."""
    calibration: CalibrationRecord | None = None
    """What was measured of the two here (``audit-lit calibrate``); None if nothing was."""
    contrast: Contrast | None = None
    """The target's difference to a baseline, if that is what dialogs are read for; None reads the target itself."""

    @classmethod
    def of(cls, target: Target | None, decoder: Decoder, layer: int | None = None) -> Session:
        """Bring target and decoder together, with a calibration of the two that is kept, if there is one.

        Raises:
            DecoderMismatch: If the decoder was not trained for the target, or not on that layer.
            CalibrationError: If a file of calibrations is malformed.
        """
        if target is None:
            return cls(None, decoder.for_layer(layer), decoder)
        fingerprint = target.fingerprint() if decoder.config.target_fingerprint else None
        decoder.config.check_target(target.d_model, target.n_layers, target.name, fingerprint)
        session = cls(target, decoder.for_layer(layer), decoder)
        record = find_calibration(session.decoder, target)
        return session if record is None else session._with(record)

    def with_calibration(self, record: CalibrationRecord) -> Session:
        """Return a session with a calibration in place of the one that it has.

        Raises:
            CalibrationError: If it is of another decoder or target.
        """
        require_fitting(record, self.decoder, self.target)
        return self._with(record)

    def _with(self, record: CalibrationRecord) -> Session:
        is_choice = self.full_decoder.config.layer_choice == "one"
        decoder = self.full_decoder.for_layer(self.decoder.config.read_layers[0] if is_choice else None)
        return replace(self, decoder=calibrated(decoder, record), calibration=record)

    @property
    def plain(self) -> Session:
        """The session that reads the target itself, whether or not there is a contrast."""
        return replace(self, contrast=None)

    @property
    def target(self) -> Target:
        """The target; raise ``TargetError`` if there is none."""
        if self.given_target is None:
            raise TargetError(
                "there is no target here, which this needs to run; expected Auditor(target, decoder) with "
                "audit_lit.load_target(name). Without one, only readings of files can be asked about."
            )
        return self.given_target

    def contrasted(self, baseline: Target, library: Library | None) -> Session:
        """Return a session that reads what training changed in the target.

        Raises:
            DecoderMismatch: If the decoder does not fit the baseline.
            TargetError: If the two models cannot be compared.
        """
        require_comparable(self.target, baseline, neutral_lines()[:1])
        if library is not None:
            library.require_base(baseline)
        Session.of(baseline, self.full_decoder)
        return replace(self, contrast=Contrast(self.target, baseline, library))

    def for_layer(self, layer: int | None) -> Session:
        """Return a session that reads another layer; itself for None."""
        if layer is None:
            return self
        return replace(Session.of(self.given_target, self.full_decoder, layer), contrast=self.contrast)

    def read(self, dialog: Dialog | Reading, reveal: Reveal = "user") -> Reading:
        """Run the target once over a dialog and once over its decoys (see ``Auditor.read``); a reading is checked."""
        if isinstance(dialog, Reading):
            name = self.contrast.name if self.contrast else None
            return fitted(dialog, self.decoder, self.given_target, contrast=name)
        messages = messages_of(dialog)  # the name of a file is refused before a target is asked for
        target, plan = self.target, self._plan(messages, reveal)
        if self.contrast:
            return self.contrast.read(plan, self.decoder.config)
        activations = capture_batch(target, plan.rendered[:1], plan.positions[:1], self.decoder.config.read_layers)
        decoys = self._read_decoys(plan)
        return plan.reading(activations, decoys, revision=target.revision, fingerprint=target.fingerprint())

    def read_alone(self, dialog: Dialog, reveal: Reveal = "user") -> Activations:
        """Run the target over a dialog, and return the activations that ``read`` does, without those of decoys."""
        plan = self._plan(dialog, reveal)
        return capture_batch(self.target, plan.rendered[:1], plan.positions[:1], self.decoder.config.read_layers)

    def _plan(self, dialog: Dialog, reveal: Reveal) -> Plan:
        return Plan.of(dialog, self.target.tokenizer, self.decoder.config, reveal)

    def _read_decoys(self, plan: Plan) -> Activations:
        try:
            return capture_batch(self.target, plan.rendered[1:], plan.positions[1:], self.decoder.config.read_layers)
        except EditError as err:
            raise EditError(
                "the edit that is on the target cannot run on the dialog's decoys, which are other prompts and without "
                f"which no answer has its controls: {err} Ask under an edit of every token (method 'vector' or "
                "'lowrank'), or see what this one makes the model say by Auditor.check."
            ) from err

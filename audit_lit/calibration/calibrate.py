"""Calibrate a decoder on a target: threshold and false alarms first, then the scales of claims, then the safety card.

Each part is kept as soon as it is measured, and is not measured again. A calibration that has more parts stays in place
until the new one is finished.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from audit_lit.answers.controls import NULL_KINDS
from audit_lit.answers.session import Session
from audit_lit.calibration.claims import (
    asked_claims,
    claim_evidence,
    fitted_claims,
    planted_rows,
    reference_likelihoods,
)
from audit_lit.calibration.journal import Journal
from audit_lit.calibration.nothing import NEUTRAL, Nothings, measured_threshold, n_passing
from audit_lit.calibration.refusals import counted, harmless_requests, refusals
from audit_lit.calibration.settings import CalibrationSettings, neutral_dialogs
from audit_lit.decoder.calibration import CalibrationRecord, Claims, Rate
from audit_lit.decoder.calibration_files import calibrations_folder, decoder_key, find_calibration, store
from audit_lit.errors import CalibrationError
from audit_lit.files.writing import locked
from audit_lit.statistics.scores import log_mean_exp

PARTS = ("claims", "safety")
"""The parts that a calibration may be without."""


def calibrate(
    session: Session,
    settings: CalibrationSettings | None = None,
    *,
    parts: Sequence[str] = PARTS,
    again: bool = False,
    replaces: bool = False,
) -> CalibrationRecord:
    """Measure and keep a calibration (see ``Auditor.calibrate``); no other run may measure the same meanwhile."""
    settings = settings or CalibrationSettings()
    journal = Journal(_unfinished(session, settings), settings.batch_size)
    where, advice = journal.path, "set AUDIT_LIT_CACHE to another folder"
    with locked(where.parent, CalibrationError, name=where.stem, advice=advice):
        before = find_calibration(session.decoder, session.target)
        is_same = before is not None and (before.seed, before.n_dialogs) == (settings.seed, settings.dialogs)
        record = before if before and is_same and not again else _measured(session, settings, journal)
        record = _kept(record, session, before, replaces=replaces)
        if "claims" in parts and record.claims is None:
            record = _kept(record, session, before, claims=_claims(session, settings, journal))
        if "safety" in parts and record.safety is None:
            requests = harmless_requests()
            refused = journal.measured("requests", requests, lambda chunk, _: refusals(session.decoder, chunk))
            record = _kept(record, session, before, safety=counted(list(map(tuple, refused))))
        store(record, session.decoder)
        journal.clear()
    return record


def _measured(session: Session, settings: CalibrationSettings, journal: Journal) -> CalibrationRecord:
    """Return a record of what the decoder says about nothing, without other parts."""
    return CalibrationRecord(
        decoder=session.decoder.config.name,
        decoder_key=decoder_key(session.decoder),
        target=session.target.name,
        target_fingerprint=session.target.fingerprint(),
        read_layers=session.decoder.config.read_layers,
        date=date.today().isoformat(),
        version=version("audit-lit"),
        seed=settings.seed,
        n_dialogs=settings.dialogs,
        **_about_nothing(session, settings, journal),
    )


def _kept(
    record: CalibrationRecord, session: Session, before: CalibrationRecord | None, **changes: Any
) -> CalibrationRecord:
    """Return a record with changes; it is stored unless the one before it has a part that it lacks."""
    changed = CalibrationRecord(**{**dict(record), **changes})
    if all(getattr(changed, part) or not getattr(before, part, None) for part in PARTS):
        store(changed, session.decoder)
    return changed


def _unfinished(session: Session, settings: CalibrationSettings) -> Path:
    what = f"{decoder_key(session.decoder)} {session.target.fingerprint()} {settings!r} {version('audit-lit')}"
    return calibrations_folder() / f"unfinished-{hashlib.sha256(what.encode()).hexdigest()[:16]}.jsonl"


def _about_nothing(session: Session, settings: CalibrationSettings, journal: Journal) -> dict[str, Any]:
    """Return the threshold of one half of the dialogs, and the false alarms at it in the other half."""
    dialogs = neutral_dialogs(settings)
    nothings = Nothings.of(session, [row.messages for row in planted_rows(settings.seed)], settings.seed)
    measured_rows = journal.measured("dialogs", dialogs, nothings.lifts)
    lifts = [{kind: tuple(lift) for kind, lift in row.items()} for row in measured_rows]
    measured, held_out = (
        [row for row, dialog in zip(lifts, dialogs, strict=True) if dialog.held_out is half] for half in (False, True)
    )
    threshold = round(measured_threshold(measured), 3)
    return {
        "lift_threshold": threshold,
        "threshold_n": len(NULL_KINDS) * len(measured),
        "about_nothing": Rate.of(n_passing(held_out, NULL_KINDS, threshold), len(NULL_KINDS) * len(held_out)),
        "about_neutral": Rate.of(n_passing(held_out, [NEUTRAL], threshold), len(held_out)),
    }


def _claims(session: Session, settings: CalibrationSettings, journal: Journal) -> Claims:
    """Return the scales of claims about planted prompts."""
    asked = asked_claims(settings.seed)
    marginals: dict[str, float] = {}
    if reference := session.decoder.reference:
        texts, rows = sorted({text for _, claims in asked for text in claims}), range(len(reference))
        nats = journal.measured(
            "reference", rows, lambda chunk, _: reference_likelihoods(session.decoder, chunk, texts)
        )
        marginals = dict(zip(texts, log_mean_exp(nats).tolist(), strict=True))
    evidence = journal.measured(
        "claims", asked, lambda chunk, _: [claim_evidence(session, dialog, marginals) for dialog in chunk]
    )
    return fitted_claims(np.array(evidence), settings.seed)

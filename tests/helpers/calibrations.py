"""Calibrations that were not measured."""

from __future__ import annotations

from typing import Any

QUICK = {"dialogs": 8, "batch_size": 3}
"""Settings of a calibration that is soon measured."""


def record(decoder: Any, target: Any, **changes: Any) -> Any:
    """A calibration of a decoder on a target."""
    from audit_lit.decoder.calibration import CalibrationRecord, Rate
    from audit_lit.decoder.calibration_files import decoder_key

    values: dict[str, Any] = {
        "decoder": decoder.config.name,
        "decoder_key": decoder_key(decoder),
        "target": target.name,
        "target_fingerprint": target.fingerprint(),
        "read_layers": decoder.config.read_layers,
        "date": "2026-01-31",
        "version": "0.1.0",
        "seed": 0,
        "n_dialogs": 8,
        "lift_threshold": 0.25,
        "threshold_n": 12,
        "about_nothing": Rate.of(1, 12),
        "about_neutral": Rate.of(2, 4),
    }
    return CalibrationRecord(**{**values, **changes})


def claims(**changes: Any) -> Any:
    """Scales of claims."""
    from audit_lit.decoder.calibration import Claims

    scales: dict[str, Any] = {"claim_scale": (0.5, -1.0), "choice_scale": 0.75}
    figures: dict[str, Any] = {"auroc": 0.9, "auroc_interval": (0.8, 0.95), "ece": 0.05, "n": 256, "n_prompts": 32}
    return Claims(**{**scales, **figures, **changes})

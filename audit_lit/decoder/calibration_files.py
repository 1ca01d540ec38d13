"""Where calibrations are kept: in ``calibration.json`` of a decoder's own folder, or else in the user's cache.

A file holds one calibration for each decoder, read layer and target, so a folder's decoder may be measured on several.
"""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from audit_lit import hub
from audit_lit.decoder.calibration import CalibrationRecord
from audit_lit.decoder.config import CONFIG_FILE
from audit_lit.decoder.decoder import Decoder
from audit_lit.decoder.folders import SHIPPED
from audit_lit.decoder.wire_format import WireFormat
from audit_lit.errors import CalibrationError
from audit_lit.files.reading import is_file, read_json
from audit_lit.files.writing import dump_json, write_whole
from audit_lit.models.loading import weights_fingerprint
from audit_lit.models.smollm2 import cache_folder
from audit_lit.models.target import Target
from audit_lit.settings import explain

NAME = "calibration.json"
FORMAT = 1


class CalibrationFile(BaseModel):
    """What a file of calibrations holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORMAT
    calibrations: tuple[CalibrationRecord, ...]

    @classmethod
    def load(cls, path: Path) -> CalibrationFile:
        """Read a file.

        Raises:
            CalibrationError: If it is no file of calibrations, or of another format.
        """
        content = read_json(path, CalibrationError)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise CalibrationError(
                f"{path} is no file of calibrations of format {FORMAT}; expected what 'audit-lit calibrate' wrote. "
                "Delete it, and calibrate again."
            )
        try:
            return cls.model_validate_json(dump_json(content), strict=True)
        except (ValidationError, CalibrationError) as err:
            problems = explain(err, cls, CalibrationRecord)
            raise CalibrationError(f"{path} is malformed ({problems}). Delete it, and calibrate again.") from err

    def save(self, path: Path) -> None:
        """Write the file; raise ``CalibrationError`` if it cannot be written, or is of another kind."""
        if is_file(path):
            CalibrationFile.load(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, dump_json(self.model_dump(mode="json"), indent=2) + "\n")
        except OSError as err:
            raise CalibrationError(f"{path} cannot be written ({err.strerror}); name another file.") from err


def calibrations_folder() -> Path:
    """Return the folder of the user's cache that calibrations are kept in; ``AUDIT_LIT_CACHE`` moves the cache."""
    return cache_folder() / "calibrations"


def decoder_key(decoder: Decoder) -> str:
    """Return a hash of all that decides a decoder's answers and its controls: its weights and its wire format.

    Weights are rounded to bfloat16, so that it is the same for a copy in that type. Fields of the wire format that have
    their default do not count, so that it stays the same where a later version adds one.
    """
    chosen = decoder.config.model_dump(include=set(WireFormat.model_fields), exclude_defaults=True)
    digest = hashlib.sha256(dump_json(dict(sorted(chosen.items()))).encode())
    for model in (decoder, decoder.text_baseline):
        if model is not None:
            digest.update(weights_fingerprint(model.model).encode())
            _update(digest, {name: value for name, value in model.model.named_parameters() if "lora_" in name})
    _update(digest, decoder.write.state_dict())
    _update(digest, {"reference": decoder.reference.resid} if decoder.reference else {})
    return digest.hexdigest()[:32]


def _update(digest: hashlib._Hash, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in sorted(tensors.items()):
        values = tensor.detach().to("cpu", torch.bfloat16).contiguous().view(torch.int16)
        digest.update(f"{name} {tuple(tensor.shape)}".encode() + values.numpy().tobytes())


def find_calibration(decoder: Decoder, target: Target) -> CalibrationRecord | None:
    """Return the newest calibration of this decoder on this target or a copy of it; None if there is none.

    Raises:
        CalibrationError: If a file of calibrations is malformed.
    """
    at_home = decoder.home / NAME if decoder.home else None
    paths = [at_home] if at_home and is_file(at_home) else []
    if not paths and not any(calibrations_folder().glob("*.json")):
        return None  # nothing to compare a key with
    key, fingerprint = decoder_key(decoder), target.fingerprint()
    paths += [_cached(key)] if is_file(_cached(key)) else []
    records = [record for path in paths for record in CalibrationFile.load(path).calibrations]
    fitting = [record for record in records if record.fits(key, fingerprint)]
    return max(fitting, key=lambda record: (record.target_fingerprint == fingerprint, record.date), default=None)


def why_ignored(decoder: Decoder) -> str | None:
    """Return a sentence about the calibrations in the decoder's folder, of which none is of it and its target."""
    path = decoder.home / NAME if decoder.home else None
    if path is None or not is_file(path):
        return None
    known = ", ".join(sorted({f"{record.decoder!r} on {record.target!r}" for record in _records(path)})) or "nothing"
    return f"{path} is of another decoder or target ({known}), and is ignored."


def require_fitting(record: CalibrationRecord, decoder: Decoder, target: Target) -> None:
    """Raise ``CalibrationError`` for a calibration of another decoder or target."""
    key, fingerprint = decoder_key(decoder), target.fingerprint()
    if not record.fits(key, fingerprint):
        raise CalibrationError(
            f"the calibration is of {record.decoder!r} (key {record.decoder_key}) on {record.target!r} (fingerprint "
            f"{record.target_fingerprint}); got {decoder.config.name!r} (key {key}) on {target.name!r} (fingerprint "
            f"{fingerprint}). Run 'audit-lit calibrate' with these two."
        )


def calibrated(decoder: Decoder, record: CalibrationRecord) -> Decoder:
    """Return the decoder with the values of a calibration (see ``CalibrationRecord.put_into``)."""
    changed = copy.copy(decoder)
    changed.config = record.put_into(decoder.config)
    return changed


def store(record: CalibrationRecord, decoder: Decoder) -> None:
    """Write a calibration in place of the one that it follows.

    It stands in the decoder's own folder if that is a local one with ``protocol.json`` that can be written to, and else
    in the user's cache.
    """
    path = kept_in(record, decoder)
    kept = CalibrationFile.load(path).calibrations if is_file(path) else ()
    same = (record.decoder_key, record.target_fingerprint)
    others = tuple(other for other in kept if (other.decoder_key, other.target_fingerprint) != same)
    CalibrationFile(calibrations=(*others, record)).save(path)


def kept_in(record: CalibrationRecord, decoder: Decoder) -> Path:
    """Return the file that a calibration is kept in (see ``store``)."""
    home = decoder.home
    return home / NAME if home and _is_own(home) else _cached(record.decoder_key)


def stored_calibrations() -> list[CalibrationRecord]:
    """Return the calibrations in the user's cache; a file that is malformed is left out."""
    return [record for path in sorted(calibrations_folder().glob("*.json")) for record in _records(path)]


def _is_own(folder: Path) -> bool:
    is_shipped = folder.resolve() in {path.resolve() for path in SHIPPED.values()}
    is_local = hub.commit_of(folder) is None and (folder / CONFIG_FILE).is_file()
    return is_local and not is_shipped and os.access(folder, os.W_OK)


def _cached(key: str) -> Path:
    return calibrations_folder() / f"{key}.json"


def _records(path: Path) -> tuple[CalibrationRecord, ...]:
    try:
        return CalibrationFile.load(path).calibrations
    except CalibrationError:
        return ()

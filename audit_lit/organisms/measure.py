"""Measure what training changed in the organisms of a zoo's folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from audit_lit.errors import RecipeError, TargetError, first_line
from audit_lit.files.reading import read_json
from audit_lit.hooks import resolve_layers, same_model
from audit_lit.models.adapters import load_lora
from audit_lit.models.difference import Difference
from audit_lit.models.probe_texts import N_SLOTS, ProbeTexts
from audit_lit.models.target import Target
from audit_lit.organisms.library import Known, Library, known_as
from audit_lit.organisms.spec import DIFFERENCE, RECORD

N_LINES = 24


def middle_layers(target: Target) -> list[int]:
    """Return the layers that are measured unless told otherwise: after a third, a half and two thirds of all."""
    return sorted({target.n_layers // 3, target.n_layers // 2, 2 * target.n_layers // 3})


def measured(
    zoo: Path, target: Target, lines: Sequence[str], layers: Sequence[int]
) -> Iterator[tuple[Known, Difference]]:
    """Yield each organism of a zoo's folder and its difference to the base; raise ``RecipeError`` if there is none."""
    folders = sorted(path.parent for path in zoo.glob(f"*/{RECORD}"))
    if not folders:
        raise RecipeError(f"{zoo} holds no organism; expected a folder that 'audit-lit organisms build' wrote.")
    texts, layers = ProbeTexts.of(target, lines), resolve_layers(layers, target.n_layers)
    baseline = texts.residuals(target, layers)
    for folder in folders:
        _require_made_of(folder, target)
        if (folder / DIFFERENCE).is_file():
            yield known_of(folder), _measured_before(folder / DIFFERENCE, layers, len(lines))
            continue
        with load_lora(folder).on(target.model.original_model):  # type: ignore[attr-defined]
            residuals = texts.residuals(target, layers)
        yield known_of(folder), Difference.between(residuals, baseline, layers)


def _measured_before(path: Path, layers: Sequence[int], n_lines: int) -> Difference:
    """Return the difference of an organism that was measured as it was built; raise ``RecipeError`` if it is unlike."""
    (difference,) = Library.load(path).differences
    if difference.n_lines != n_lines or not set(layers) <= set(difference.layers):
        raise RecipeError(
            f"{path} was measured on {difference.n_lines} lines at layers {list(difference.layers)}; expected "
            f"{n_lines} lines and layers {list(layers)}. All weights of this organism were trained, and none is kept: "
            "measure the others likewise, or move its folder away."
        )
    return difference.at(layers, N_SLOTS)


def _require_made_of(folder: Path, base: Target) -> None:
    """Raise ``TargetError`` unless an organism was made of this base."""
    fingerprint = read_json(folder / RECORD, RecipeError).get("fingerprint")
    if not isinstance(fingerprint, str) or not same_model(fingerprint, base.fingerprint()):
        raise TargetError(
            f"the organism in {folder} was made of another model than {base.name!r}, or does not say which; expected "
            "one of this base. Name its own with --target, or build it again."
        )


def known_of(folder: Path) -> Known:
    """Return what is known of the organism in a folder; raise ``RecipeError`` if its record is broken."""
    record = read_json(folder / RECORD, RecipeError)
    try:
        return known_as(folder.name, record["spec"], record)
    except (KeyError, TypeError, ValidationError) as err:
        raise RecipeError(
            f"{folder / RECORD} is no record of an organism ({first_line(err)}); expected what 'organisms build' wrote."
        ) from err

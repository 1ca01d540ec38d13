"""Run an audit: every dialog is measured once, by any number of processes, and written down when it is done."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from audit_lit import __version__
from audit_lit.answers.patching import Heatmap, patch_activations
from audit_lit.answers.session import Session
from audit_lit.chat.dialog import Dialog
from audit_lit.chat.formats import DialogFile, DialogList, Dialogs, NamedDialog, digest
from audit_lit.chat.neutral import neutral_twins, twins_seed
from audit_lit.chat.rendering import render
from audit_lit.errors import AuditLitError, DialogError, ScanError
from audit_lit.models.fingerprint import weights_fingerprint
from audit_lit.models.target import Target
from audit_lit.scan.findings import Finding
from audit_lit.scan.folder import HEATMAPS, REPORT, Heatmaps, RunFolder
from audit_lit.scan.measure import Measurement
from audit_lit.scan.outcome import AuditOutcome, load_outcome
from audit_lit.scan.questions import Question
from audit_lit.scan.recipe import ScanRecipe, load_scan_recipe
from audit_lit.scan.records import DialogRecord

if TYPE_CHECKING:
    from accelerate import PartialState

CHUNK = 16
"""Dialogs that are asked about at once; finished together."""


def scan(
    session: Session,
    dialogs: Sequence[Dialog] | str | Path,
    recipe: str | Path,
    settings: dict[str, Any],
    *,
    out: str | Path | None = None,
    baseline: Target | None = None,
    seed: int = 0,
) -> AuditOutcome:
    """Audit dialogs by a recipe (see ``Auditor.scan``)."""
    loaded, questions = load_scan_recipe(recipe, settings)
    given = DialogFile(Path(dialogs)) if isinstance(dialogs, str | Path) else DialogList(dialogs)
    if baseline is not None:
        Session.of(baseline, session.full_decoder)  # raises if the decoder does not fit it
    if out is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ScanError("several processes meet in a run folder; name one with out=.")
    with TemporaryDirectory() if out is None else nullcontext(out) as folder:
        place = {"out": Path(folder), "baseline": baseline, "seed": seed}
        return run_scan(session.for_layer(loaded.layer), given, loaded, questions, **place)


def run_scan(
    session: Session,
    dialogs: Dialogs,
    recipe: ScanRecipe,
    questions: tuple[Question, ...],
    out: Path,
    *,
    baseline: Target | None = None,
    seed: int = 0,
) -> AuditOutcome:
    """Audit dialogs and return the outcome; a run that was interrupted goes on in its folder.

    Under ``accelerate launch`` every process takes its share of the dialogs, and the outcome is that of one process.

    Raises:
        DialogError: If a dialog is malformed or cannot be read, before anything is run.
        ScanError: If the decoder's threshold is not known, or the folder cannot be used.
        Incomplete: If the folder cannot be written any more.
    """
    from accelerate import PartialState

    if _threshold(session, recipe) is None:
        raise ScanError(
            f"the threshold of {session.decoder.config.name!r} has not been measured, so nothing could be found: it is "
            "the lift that answers about nothing reach. Measure it with 'audit-lit eval null', and give it with --set "
            "min_lift=VALUE."
        )
    state = PartialState(cpu=session.target.device.type == "cpu")
    n_dialogs, content = digest(_readable(session, dialogs, recipe))
    n_twins = twins_per_dialog(recipe, questions, n_dialogs)
    measurement = Measurement(session, recipe, questions, n_twins, baseline or session.target, seed)
    folder = RunFolder(out)
    with folder.claimed(_manifest(measurement, n_dialogs, content)) if state.is_main_process else nullcontext():
        state.wait_for_everyone()
        _measure(measurement, dialogs, folder, n_dialogs, state)
        state.wait_for_everyone()
        outcome = load_outcome(out)
        if state.is_main_process:
            heatmaps = _heatmaps(measurement, outcome.raised, folder.heatmaps())
            plain = {
                question: {dialog: asdict(heatmap) for dialog, heatmap in by_dialog.items()}
                for question, by_dialog in heatmaps.items()
            }
            folder.write(HEATMAPS, json.dumps(plain))
            outcome = outcome.with_heatmaps(heatmaps)
            folder.write(REPORT, outcome.to_json() + "\n")
        state.wait_for_everyone()
    return outcome.with_heatmaps(folder.heatmaps())


def twins_per_dialog(recipe: ScanRecipe, questions: Sequence[Question], n_dialogs: int) -> int:
    """Return one without a prompt, and as many neutral ones as let one question alone pass the correction for all."""
    n_compared = sum(question.expected is not None for question in questions)
    n_neutral = math.ceil(n_compared / recipe.alpha)
    return max(recipe.twins, 1 + math.ceil(n_neutral / n_dialogs))


def _threshold(session: Session, recipe: ScanRecipe) -> float | None:
    return session.decoder.config.lift_threshold if recipe.min_lift is None else recipe.min_lift


def _readable(session: Session, dialogs: Dialogs, recipe: ScanRecipe) -> Iterator[NamedDialog]:
    """Yield the dialogs; raise for the first that cannot be read."""
    target, config = session.target, session.decoder.config
    for dialog in dialogs:
        try:
            rendered = render(dialog.messages, target.tokenizer)
            config.select(rendered, recipe.reveal)
        except AuditLitError as err:
            raise DialogError(f"{dialog.where}: {err}") from err
        if len(rendered.token_ids) > target.n_ctx:
            raise DialogError(
                f"{dialog.where} has {len(rendered.token_ids)} tokens; the target's context holds {target.n_ctx}. "
                "Drop or shorten its messages."
            )
        yield dialog


def _measure(
    measurement: Measurement, dialogs: Dialogs, folder: RunFolder, n_dialogs: int, state: PartialState
) -> None:
    """Write the records of each chunk of this process's share that is not finished."""
    rank, world = state.process_index, state.num_processes
    done = {record.id for record in folder.records() if isinstance(record, DialogRecord)}
    state.wait_for_everyone()  # before one of them writes more
    shown = {"total": n_dialogs, "initial": len(done), "unit": "dialog", "disable": not state.is_main_process}
    with tqdm(desc="audit", **shown) as progress:
        for number, chunk in enumerate(_chunks(dialogs)):
            if number % world == rank and not all(dialog.id in done for dialog in chunk):
                folder.append(rank, measurement.records(chunk, number * CHUNK))
                progress.update(min(len(chunk) * world, n_dialogs - progress.n))


def _chunks(dialogs: Dialogs) -> Iterator[list[NamedDialog]]:
    rest = iter(dialogs)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk


def _heatmaps(measurement: Measurement, raised: tuple[Finding, ...], kept: Heatmaps) -> Heatmaps:
    """Return where the best evidence of each raised finding sits, by question and dialog.

    Those of a run that goes on are kept as far as the best evidence is the same.
    """
    heatmaps: Heatmaps = {}
    for finding in raised:
        question, dialog = finding.question.id, finding.evidence[0].dialog
        heatmaps[question] = {dialog: kept.get(question, {}).get(dialog) or _heatmap(measurement, finding)}
    return heatmaps


def _heatmap(measurement: Measurement, finding: Finding) -> Heatmap:
    best = finding.evidence[0]
    twin = neutral_twins(best.messages, 2, twins_seed(measurement.seed, best.dialog))[1]
    return patch_activations(
        measurement.session,
        best.messages,
        twin,
        finding.question.text,
        best.answer.text,
        reveal=measurement.recipe.reveal,
        baseline=measurement.baseline,
    )


def _manifest(measurement: Measurement, n_dialogs: int, content: str) -> dict[str, Any]:
    """Return all that the report depends on: what a run folder must agree with to be gone on with."""
    import torch
    import transformer_lens
    import transformers

    session, recipe = measurement.session, measurement.recipe
    target, decoder, baseline = session.target, session.decoder, measurement.baseline
    return {
        "versions": {
            "audit_lit": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "transformer_lens": getattr(transformer_lens, "__version__", "unknown"),
        },
        "target": {"name": target.name, "revision": target.revision, "weights": weights_fingerprint(target.model)},
        "baseline": {"name": baseline.name, "weights": weights_fingerprint(baseline.model)},
        "decoder": {
            "name": decoder.config.name,
            "weights": weights_fingerprint(decoder.model),
            "rival": weights_fingerprint(decoder.text_baseline.model) if decoder.text_baseline else None,
            "protocol": hashlib.sha256(json.dumps(decoder.config.to_dict()).encode()).hexdigest()[:16],
            "training_data": decoder.config.training_data,
            "layers": list(decoder.config.read_layers),
        },
        "dtype": str(next(decoder.model.parameters()).dtype),
        "recipe": recipe.model_dump(mode="json"),
        "questions": [question.model_dump(mode="json") for question in measurement.questions],
        "threshold": _threshold(session, recipe),
        "n_dialogs": n_dialogs,
        "dialogs": content,
        "n_twins": measurement.n_twins,
        "seed": measurement.seed,
    }

"""Run an audit: every dialog is measured once, by any number of processes, and written down when it is done."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from audit_lit.answers.contrast import Contrast
from audit_lit.answers.patching import patch_activations
from audit_lit.answers.rivals import rivals
from audit_lit.answers.session import Session
from audit_lit.calibration.calibrate import calibrate
from audit_lit.chat.arguments import many_dialogs
from audit_lit.chat.decoys import neutral_twins, twins_seed
from audit_lit.chat.dialog import Dialog
from audit_lit.chat.formats import DialogFile, DialogList, Dialogs, NamedDialog, Unreadable, digest
from audit_lit.errors import AuditLitError, DialogError, OutputError, ScanError, UnreadableDialog
from audit_lit.files.paths import as_path
from audit_lit.files.reading import is_folder as is_directory
from audit_lit.hooks import same_model
from audit_lit.models.target import Target
from audit_lit.scan.finding import Finding
from audit_lit.scan.folder import REPORT, Heatmaps, RunFolder
from audit_lit.scan.manifest import Manifest
from audit_lit.scan.measure import Measurement, needed_lift
from audit_lit.scan.outcome import AuditOutcome, load_outcome
from audit_lit.scan.readings import NamedReading, ReadingFolder
from audit_lit.scan.recipe import MAX_TWINS, Question, ScanRecipe, load_scan_recipe
from audit_lit.settings import checked_seed

if TYPE_CHECKING:
    from accelerate import PartialState

CHUNK = 16
"""Number of dialogs that are asked about at once, and finished together."""


def scan(
    session: Session,
    dialogs: Sequence[Dialog] | str | Path,
    recipe: str | Path,
    settings: dict[str, Any],
    *,
    format: str | None = None,
    skip_unreadable: bool = False,
    out: str | Path | None = None,
    baseline: Target | None = None,
    seed: int = 0,
    kept_in: str | Path | None = None,
) -> AuditOutcome:
    """Audit dialogs by a recipe (see ``Auditor.scan``)."""
    loaded, questions = load_scan_recipe(recipe, settings)
    seed = checked_seed(seed)
    run_folder = None if out is None else RunFolder(as_path(out, ScanError, "the run folder"))
    is_folder = isinstance(dialogs, str | Path) and is_directory(dialogs)
    if is_folder and (baseline is not None or kept_in is not None):
        raise ScanError(
            "the dialogs are activations of files, so nothing runs; expected no baseline, and none to keep."
        )
    if baseline is not None:
        Session.of(baseline, session.full_decoder)  # raises if the decoder does not fit it
    if out is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ScanError("several processes meet in a run folder; name one with out=.")
    if loaded.reads == "difference":
        _require_contrast(session, loaded.name)
        if kept_in is not None:
            raise ScanError("a difference is not kept as activations; expected no folder for them. Leave it out.")
    reader = (session if loaded.reads == "difference" else session.plain).for_layer(loaded.layer)
    if not reader.decoder.config.takes_question:
        raise ScanError(
            f"decoder {reader.decoder.config.name!r} describes activations and takes no question; expected one that "
            "answers an audit's. Ask it about single dialogs with 'audit-lit ask'."
        )
    given: Dialogs | ReadingFolder
    if isinstance(dialogs, str | Path):
        path = as_path(dialogs, DialogError, "the file of dialogs")
        given = ReadingFolder(path, skip_unreadable) if is_folder else DialogFile(path, format, skip_unreadable)
    else:
        given = DialogList(many_dialogs(dialogs), skip_unreadable)
    named = _Readable(given, reader, loaded)
    census = digest(named)
    n_twins = twins_per_dialog(loaded, questions, census.n_dialogs - census.n_unreadable)
    if needed_lift(reader, loaded) is None:
        reader = _measure_threshold(reader, baseline)
    content = census.sha256
    if isinstance(given, ReadingFolder):
        n_twins = given.n_twins(n_twins, twins_per_dialog(loaded, questions, census.n_dialogs))
        measurement = Measurement(reader, loaded, questions, n_twins, None, seed, audited=given.model())
        content = given.sha256()
    elif reader.contrast:
        _require_clean(reader.contrast, n_twins)
        measurement = Measurement(reader, loaded, questions, n_twins, None, seed)
    else:
        keeping = None if kept_in is None else as_path(kept_in, OutputError, "the folder of activations")
        clean = baseline or reader.target
        measurement = Measurement(reader, loaded, questions, n_twins, clean, seed, kept_in=keeping)
    manifest = measurement.manifest(census.n_dialogs, content)
    if run_folder:
        return _run(measurement, named, run_folder, manifest)
    with TemporaryDirectory() as folder:
        return _run(measurement, named, RunFolder(Path(folder)), manifest)


def _require_contrast(session: Session, recipe: str) -> None:
    """Raise ``ScanError`` unless there is a baseline, and organisms of it to compare with."""
    if session.contrast is None:
        raise ScanError(
            f"recipe {recipe!r} reads what training changed, and there is no baseline to tell it by; expected the "
            "model that the target was trained from: Auditor(target, decoder, baseline=base), or --baseline BASE."
        )
    if session.contrast.library is None:
        raise ScanError(
            f"there are no organisms of {session.contrast.baseline.name!r} to compare a fine-tune with; expected a "
            "library of them. Build it: 'audit-lit organisms build RECIPE --out ZOO' and 'audit-lit organisms measure "
            "ZOO --out FILE'. Then pass it: --library FILE, or Auditor(..., library=Library.load(FILE))."
        )


def _require_clean(contrast: Contrast, n_twins: int) -> None:
    """Raise ``ScanError`` unless there are as many clean organisms as twins, less the baseline, and planted ones."""
    known = contrast.library.known if contrast.library else ()
    n_clean = sum(not entry.planted for entry in known)
    if n_clean < n_twins - 1 or n_clean == len(known):
        raise ScanError(
            f"the library has {n_clean} clean organisms and {len(known) - n_clean} with something planted; expected "
            f"{n_twins - 1} clean ones, as many as each dialog needs, and some others. Build more, or lower 'twins'."
        )


def _measure_threshold(reader: Session, baseline: Target | None) -> Session:
    """Return a session whose threshold is measured: in the baseline if that is a copy of the target, since it is clean.

    Raises:
        ScanError: In several processes, which would all measure it, or all wait for the first; or without a target.
    """
    if reader.given_target is None:
        raise ScanError(
            f"the threshold of {reader.decoder.config.name!r} has not been measured, and cannot be without a target; "
            "give --set min_lift=VALUE, as 'audit-lit calibrate' finds it where the target is."
        )
    target = reader.target
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ScanError(
            f"the threshold of {reader.decoder.config.name!r} has not been measured on {target.name!r}: the lift that "
            "answers about nothing reach. Run 'audit-lit calibrate' with these two first, in one process, or give "
            "--set min_lift=VALUE."
        )
    is_copy = baseline is not None and same_model(target.fingerprint(), baseline.fingerprint())
    measured_in = replace(reader, given_target=baseline) if baseline and is_copy else reader
    return reader.with_calibration(calibrate(measured_in, parts=()))


def _run(measurement: Measurement, dialogs: _Readable, folder: RunFolder, manifest: dict[str, Any]) -> AuditOutcome:
    """Measure and judge the dialogs; a run that was interrupted goes on in its folder.

    Under ``accelerate launch`` every process takes its share of the dialogs, and the outcome is the same as that of one
    process.
    """
    from accelerate import PartialState

    state = PartialState(cpu=measurement.session.decoder.device.type == "cpu")
    with folder.claimed(manifest) if state.is_main_process else nullcontext():
        state.wait_for_everyone()
        _measure(measurement, dialogs, folder, Manifest.of(manifest), state)
        state.wait_for_everyone()
        contrast = measurement.session.contrast
        if contrast and state.is_main_process and not folder.rivals():
            folder.write_rivals(rivals(contrast, measurement.session.decoder))
        outcome = load_outcome(folder.path)
        if state.is_main_process:
            folder.write_heatmaps(find_heatmaps(measurement, outcome.raised, folder.heatmaps()))
            folder.write(REPORT, outcome.with_heatmaps(folder.heatmaps()).to_json() + "\n")
        state.wait_for_everyone()
    return outcome.with_heatmaps(folder.heatmaps())


def twins_per_dialog(recipe: ScanRecipe, questions: Sequence[Question], n_dialogs: int) -> int:
    """Return the number of neutral twins that each dialog needs.

    One has no system prompt. There are as many others as let a single question pass the correction for all questions.

    Raises:
        ScanError: If those are too many.
    """
    n_compared = sum(question.expected is not None for question in questions)
    n_twins = max(recipe.twins, 1 + math.ceil(math.ceil(n_compared / recipe.alpha) / n_dialogs))
    if n_twins > MAX_TWINS:
        raise ScanError(
            f"alpha={recipe.alpha:g} needs {n_twins:,} neutral twins for each of {n_dialogs} dialogs; expected at most "
            f"{MAX_TWINS:,}. Give more dialogs, or a larger alpha."
        )
    return n_twins


@dataclass(frozen=True)
class _Readable:
    """The dialogs of an audit, tried on the target's chat template and context before any of them runs."""

    dialogs: Dialogs | ReadingFolder
    session: Session
    recipe: ScanRecipe

    def __iter__(self) -> Iterator[NamedDialog | Unreadable]:
        """Yield the dialogs; raise for the first that cannot be read, unless such dialogs are skipped."""
        for dialog in self.dialogs:
            error = self._error(dialog) if isinstance(dialog, NamedDialog) else None
            if error and not self.dialogs.skip_unreadable:
                raise UnreadableDialog(error)
            yield Unreadable(dialog.id, error, dialog.where) if error else dialog

    def _error(self, dialog: NamedDialog) -> str | None:
        if isinstance(dialog, NamedReading):
            try:
                dialog.read(self.session, self.recipe.reveal)
            except AuditLitError as err:
                return str(err)
            return None
        target, config = self.session.target, self.session.decoder.config
        try:
            rendered = config.render(dialog.messages, target.tokenizer)
            config.select(rendered, self.recipe.reveal)
        except AuditLitError as err:
            return dialog.unread(err)
        if len(rendered.token_ids) <= target.n_ctx:
            return None
        return (
            f"{dialog.where} has {len(rendered.token_ids)} tokens; the target's context holds {target.n_ctx}. "
            "Drop or shorten its messages."
        )


def _measure(
    measurement: Measurement, dialogs: _Readable, folder: RunFolder, manifest: Manifest, state: PartialState
) -> None:
    """Write the records of each unfinished chunk of this process's share; a dialog that has one gets no other."""
    rank, n_processes, n_dialogs = state.process_index, state.num_processes, manifest.n_dialogs
    done = manifest.finished(folder.records, dialogs.dialogs)
    state.wait_for_everyone()  # before one of them writes more
    shown = {"total": n_dialogs, "initial": len(done), "unit": "dialog", "disable": not state.is_main_process}
    remaining = iter(dialogs)
    chunks = iter(lambda: list(islice(remaining, CHUNK)), [])
    with tqdm(desc="audit", **shown) as progress:
        for number, chunk in enumerate(chunks):
            if number % n_processes == rank and not all(dialog.id in done for dialog in chunk):
                records = measurement.records(chunk, number * CHUNK)
                folder.append(rank, [record for record in records if record.id not in done])
                progress.update(min(len(chunk) * n_processes, n_dialogs - progress.n))


def find_heatmaps(measurement: Measurement, raised: Sequence[Finding], kept: Heatmaps) -> Heatmaps:
    """Return a heatmap of the best evidence of each raised finding.

    Those of an earlier run in the same folder are kept where the best evidence is still the same. Without a target
    there are none: nothing can be patched.
    """
    heatmaps: Heatmaps = {}
    if measurement.session.given_target is None or measurement.baseline is None:
        return heatmaps
    session, reveal = measurement.session, measurement.recipe.reveal
    patch = partial(patch_activations, session, reveal=reveal, baseline=measurement.baseline)
    for finding in raised:
        question, best = finding.question, finding.evidence[0]
        heatmap = kept.get(question.id, {}).get(best.dialog)
        if heatmap is None:
            _, neutral = neutral_twins(best.messages, 2, twins_seed(measurement.seed, best.dialog))
            heatmap = patch(best.messages, neutral, question.text, best.answer.text)
        heatmaps[question.id] = {best.dialog: heatmap}
    return heatmaps

"""Runs an audit: every dialog is measured once, by any number of processes, and written down when it is done."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from audit_lit import __version__
from audit_lit.dialog import render
from audit_lit.errors import AuditLitError, DialogError, ScanError
from audit_lit.neutral import neutral_twins
from audit_lit.scan.dialogs import Case, Dialogs, digest
from audit_lit.scan.findings import Finding
from audit_lit.scan.folder import HEATMAPS, REPORT, RunFolder
from audit_lit.scan.measure import Measurement, twins_seed
from audit_lit.scan.patching import patch
from audit_lit.scan.questions import Question
from audit_lit.scan.recipe import ScanRecipe
from audit_lit.scan.report import AuditReport, load_report
from audit_lit.target import Target, weights_fingerprint

if TYPE_CHECKING:
    from accelerate import PartialState

    from audit_lit.auditor import Auditor

CHUNK = 16
"""Dialogs that are asked about at once; finished together."""


def run_scan(
    auditor: Auditor,
    dialogs: Dialogs,
    recipe: ScanRecipe,
    questions: tuple[Question, ...],
    out: Path,
    *,
    baseline: Target | None = None,
    seed: int = 0,
) -> AuditReport:
    """Audit dialogs and return the report; a run that was interrupted goes on in its folder.

    Under ``accelerate launch`` every process takes its share of the dialogs, and the report is that of one process.

    Raises:
        DialogError: If a dialog is malformed or cannot be read, before anything is run.
        ScanError: If the decoder's threshold is not known, or the folder cannot be used.
        Incomplete: If the folder cannot be written any more.
    """
    from accelerate import PartialState

    if _threshold(auditor, recipe) is None:
        raise ScanError(
            f"nobody measured what lift {auditor.decoder.protocol.name!r} reaches about nothing, so nothing could be "
            "found. Measure it with 'audit-lit eval null', and give it with --set min_lift=VALUE."
        )
    state = PartialState(cpu=auditor.target.device.type == "cpu")
    n_dialogs, content = digest(_readable(auditor, dialogs, recipe))
    n_twins = twins_per_dialog(recipe, questions, n_dialogs)
    measurement = Measurement(auditor, recipe, questions, n_twins, baseline or auditor.target, seed)
    manifest = _manifest(measurement, n_dialogs, content)
    folder = RunFolder(out)
    with folder.claimed(manifest) if state.is_main_process else nullcontext():
        state.wait_for_everyone()
        _measure(measurement, dialogs, folder, n_dialogs, state)
        state.wait_for_everyone()
        report = load_report(out)
        if state.is_main_process:
            folder.write(HEATMAPS, json.dumps(_heatmaps(measurement, report.raised, folder.heatmaps())))
            report = report.with_heatmaps(folder.heatmaps())
            folder.write(REPORT, report.to_json() + "\n")
        state.wait_for_everyone()
    return report.with_heatmaps(folder.heatmaps())


def twins_per_dialog(recipe: ScanRecipe, questions: Sequence[Question], n_dialogs: int) -> int:
    """Return one without a prompt, and as many neutral ones as let one question alone pass the correction for all."""
    n_neutral = math.ceil(sum(one.expected is not None for one in questions) / recipe.alpha)
    return max(recipe.twins, 1 + math.ceil(n_neutral / n_dialogs))


def _threshold(auditor: Auditor, recipe: ScanRecipe) -> float | None:
    return auditor.decoder.protocol.lift_threshold if recipe.min_lift is None else recipe.min_lift


def _readable(auditor: Auditor, dialogs: Dialogs, recipe: ScanRecipe) -> Iterator[Case]:
    """Yield the dialogs; raise for the first that cannot be read."""
    target, protocol = auditor.target, auditor.decoder.protocol
    for case in dialogs:
        try:
            rendered = render(case.messages, target.tokenizer)
            protocol.select(rendered, recipe.reveal)
        except AuditLitError as err:
            raise DialogError(f"{case.where}: {err}") from err
        if len(rendered.token_ids) > target.n_ctx:
            raise DialogError(
                f"{case.where} has {len(rendered.token_ids)} tokens; the target's context holds {target.n_ctx}. "
                "Drop or shorten its messages."
            )
        yield case


def _measure(
    measurement: Measurement, dialogs: Dialogs, folder: RunFolder, n_dialogs: int, state: PartialState
) -> None:
    """Write the records of each chunk of this process's share that is not finished."""
    rank, world = state.process_index, state.num_processes
    done = {record["id"] for record in folder.records() if "error" not in record}
    state.wait_for_everyone()  # before one of them writes more
    shown = {"total": n_dialogs, "initial": len(done), "unit": "dialog", "disable": not state.is_main_process}
    with tqdm(desc="audit", **shown) as progress:
        for number, chunk in enumerate(_chunks(dialogs)):
            if number % world == rank and not all(case.id in done for case in chunk):
                records = measurement.records(chunk)
                folder.append(rank, [{"place": number * CHUNK + at, **one} for at, one in enumerate(records)])
                progress.update(min(len(chunk) * world, n_dialogs - progress.n))


def _chunks(dialogs: Dialogs) -> Iterator[list[Case]]:
    cases = iter(dialogs)
    while chunk := list(islice(cases, CHUNK)):
        yield chunk


def _heatmaps(
    measurement: Measurement, raised: tuple[Finding, ...], kept: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return where the best evidence of each raised finding sits, by question and dialog.

    Those of a run that goes on are kept as far as the best evidence is the same.
    """
    found: dict[str, dict[str, Any]] = {}
    for finding in raised:
        question, dialog = finding.question.id, finding.evidence[0].dialog
        found[question] = {dialog: kept.get(question, {}).get(dialog) or _heatmap(measurement, finding)}
    return found


def _heatmap(measurement: Measurement, finding: Finding) -> dict[str, Any]:
    best = finding.evidence[0]
    twin = neutral_twins(best.messages, 2, twins_seed(measurement.seed, best.dialog))[1]
    heatmap = patch(
        measurement.auditor,
        best.messages,
        twin,
        finding.question.text,
        best.answer["text"],
        reveal=measurement.recipe.reveal,
        baseline=measurement.baseline,
    )
    return asdict(heatmap)


def _manifest(measurement: Measurement, n_dialogs: int, content: str) -> dict[str, Any]:
    """Return all that the report depends on: what a run folder must agree with to be gone on with."""
    import torch
    import transformer_lens
    import transformers

    auditor, recipe = measurement.auditor, measurement.recipe
    target, decoder = auditor.target, auditor.decoder
    return {
        "versions": {
            "audit_lit": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "transformer_lens": getattr(transformer_lens, "__version__", "unknown"),
        },
        "target": {"name": target.name, "revision": target.revision, "weights": weights_fingerprint(target.model)},
        "baseline": {
            "name": measurement.baseline.name,
            "weights": weights_fingerprint(measurement.baseline.model),
        },
        "decoder": {
            "name": decoder.protocol.name,
            "weights": weights_fingerprint(decoder.model),
            "rival": weights_fingerprint(decoder.rival.model) if decoder.rival else None,
            "protocol": hashlib.sha256(json.dumps(asdict(decoder.protocol)).encode()).hexdigest()[:16],
            "training_data": decoder.protocol.training_data,
            "layers": list(decoder.protocol.read_layers),
        },
        "dtype": str(next(decoder.model.parameters()).dtype),
        "recipe": recipe.model_dump(mode="json"),
        "questions": [question.model_dump(mode="json") for question in measurement.questions],
        "threshold": _threshold(auditor, recipe),
        "n_dialogs": n_dialogs,
        "dialogs": content,
        "n_twins": measurement.n_twins,
        "seed": measurement.seed,
    }

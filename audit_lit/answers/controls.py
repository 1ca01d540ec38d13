"""The controls of an answer, in which the decoder lacks the activations that it is about, and its scores under them.

- ``no_activation``: the same decoder prompt with empty slots.
- ``null``: random activations with the mean, spread and norms of real ones.
- ``shuffled``: the same visible turns after other hidden prompts (see ``chat.decoys``).
- ``text_trained``: a LoRA of the same shape that was trained to answer from the visible text, where a decoder has one.
- ``text_only``: the base model reads the visible text and the same question (see ``decoder.text_baseline``). It does
  not know how the decoder words its answers, so it is the weakest control.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audit_lit.answers.reading import Reading
from audit_lit.chat.decoys import N_DECOYS
from audit_lit.decoder.answering import Candidate
from audit_lit.decoder.decoder import Decoder, text_baselines
from audit_lit.hooks import Project
from audit_lit.models.activations import Activations
from audit_lit.statistics.intervals import Values

ACTIVATIONS = "activations"
"""Name of the condition that is not a control: the dialog's own activations."""
CONTROLS = ("no_activation", "null", "shuffled", "text_only")
"""The controls of every decoder; a decoder with a trained text baseline has ``text_trained`` as well."""
VISIBILITY = "visibility"
"""Not a score, but what all of them need: that the tokens that were read are visible ones of the dialog."""
N_NULL = 4
"""Number of draws of the control ``null``."""
NULL_KINDS = ("random", "permuted", "mean")
"""Kinds of activations without information about their dialog."""


def controls_of(decoder: Decoder) -> tuple[str, ...]:
    """Return the names of the controls that a decoder can be compared with."""
    return (*CONTROLS, "text_trained") if decoder.text_baseline else CONTROLS


def missing_controls(decoder: Decoder, reading: Reading) -> tuple[str, ...]:
    """Return the names of the controls that a reading does not allow, or not in full, as one of a file may not.

    ``VISIBILITY`` is among them where nobody knows whether its positions are visible (see ``answers.fitting``): a
    decoder that sees what is hidden proves nothing.
    """
    lacking = [] if reading.visible_text is not None else list(text_baselines(decoder))
    lacking += ["shuffled"] if n_distinct(reading.decoys) < N_DECOYS else []
    lacking += [VISIBILITY] if reading.rendered is None else []
    return tuple(name for name in (*controls_of(decoder), VISIBILITY) if name in lacking)


def n_distinct(rows: Activations | None) -> int:
    """Return the number of rows that are no copies of others; a copy is no further control."""
    return 0 if rows is None else len(set(rows.hashes()))


def null_activations(activations: Activations, write: nn.Module, *, seed: int = 0) -> Activations:
    """Return random activations in the place of real ones, ``N_NULL`` draws for each row.

    Each vector has the norm of the one that it replaces. Where the decoder standardises its input, that is the norm of
    the standardised vector.
    """
    rows = activations.rows([row for row in range(len(activations)) for _ in range(N_NULL)])
    noise = torch.randn(rows.resid.shape, generator=torch.Generator().manual_seed(seed)).to(rows.resid.device)
    if isinstance(write, Project):
        mean, std = write.mean[None, :, None], write.std[None, :, None]
        resid = mean + std * _with_norm_of(noise, (rows.resid - mean) / std)
    else:
        resid = _with_norm_of(noise, rows.resid)
    return replace(rows, resid=(resid * rows.mask[:, None, :, None]).to(activations.resid.dtype))


def null_input(
    kind: str, activations: Activations, write: nn.Module, *, others: Activations | None = None, seed: int = 0
) -> Activations:
    """Return activations without information, in the shape of real ones and one row for each of theirs.

    They are ``random`` (the spread and norms of real ones), ``permuted`` (each vector's entries in random order) or the
    ``mean`` of ``others`` at each slot (by default of the rows themselves): what no hidden prompt and no line changes.
    """
    if kind not in NULL_KINDS:
        raise ValueError(f"unknown kind of null input {kind!r}; expected one of {', '.join(NULL_KINDS)}.")
    if kind == "random":
        return null_activations(activations, write, seed=seed).rows(range(0, N_NULL * len(activations), N_NULL))
    resid = activations.resid
    if kind == "permuted":
        keys = torch.rand(resid.shape, generator=torch.Generator().manual_seed(seed))
        return replace(activations, resid=resid.gather(-1, keys.argsort(-1).to(resid.device)))
    mean = _mean_by_slot(others or activations, resid.shape[2])
    return replace(activations, resid=(mean * activations.mask[:, None, :, None]).to(resid.dtype))


def _mean_by_slot(activations: Activations, n_slots: int) -> Float[Tensor, "layer slot d_model"]:
    """Return the mean at each slot; over all slots where at most half the rows reach, so that no row can be read."""
    resid, mask = activations.resid.float(), activations.mask
    sums, counts = resid.sum(0), mask.sum(0)
    overall = (sums.sum(1) / counts.sum())[:, None]
    means = torch.where((counts > len(activations) / 2)[:, None], sums / counts[:, None].clamp_min(1), overall)
    missing = overall.expand(-1, max(0, n_slots - means.shape[1]), -1)
    return torch.cat([means, missing], dim=1)[:, :n_slots]


def _with_norm_of(noise: Tensor, like: Tensor) -> Tensor:
    scaled: Tensor = noise * like.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True)
    return scaled


def score_under_controls(
    decoder: Decoder,
    readings: Sequence[Reading],
    questions: Sequence[str],
    answers: Sequence[Sequence[str]],
    *,
    seed: int = 0,
) -> list[list[dict[str, Values]]]:
    """Return for each reading and question, by condition, the log-probabilities in nats of its answer's tokens.

    Of several draws of a control, the one that favours the answer most counts: with their mean, an answer would pass
    that is right only about what half of them share. A control that needs what a reading lacks is left out (see
    ``missing_controls``).
    """
    scored = [
        [_Scored(index, question, answer) for question, answer in zip(questions, row, strict=True)]
        for index, row in enumerate(answers)
    ]
    flat = [answer for row in scored for answer in row]
    activations, conditions = _conditions(decoder, readings, seed)
    places = [
        (answer, condition, Candidate(row, answer.question, answer.text, injected=condition != "no_activation"))
        for answer in flat
        for condition, rows in conditions[answer.reading].items()
        for row in rows
    ]
    scores = decoder.score_candidates(activations, [candidate for *_, candidate in places])
    for (answer, condition, _), nats in zip(places, scores, strict=True):
        answer.keep_best(condition, nats)
    shown = [(answer, text) for answer in flat if (text := readings[answer.reading].visible_text) is not None]
    for condition, baseline in text_baselines(decoder).items() if shown else ():
        texts, questions = [text for _, text in shown], [answer.question for answer, _ in shown]
        scores = baseline.logprob(texts, questions, [answer.text for answer, _ in shown])
        for (answer, _), nats in zip(shown, scores, strict=True):
            answer.keep_best(condition, nats)
    return [[answer.nats for answer in row] for row in scored]


@dataclass(frozen=True)
class _Scored:
    """An answer to a question about a reading, given by its index, and its scores so far, by condition."""

    reading: int
    question: str
    text: str
    nats: dict[str, Values] = field(default_factory=dict)

    def keep_best(self, condition: str, nats: Tensor) -> None:
        values: Values = nats.double().cpu().numpy()
        if condition not in self.nats or values.mean() > self.nats[condition].mean():
            self.nats[condition] = values


def _conditions(decoder: Decoder, readings: Sequence[Reading], seed: int) -> tuple[Activations, list[dict[str, range]]]:
    """Return all activations that answers are scored under, and for each reading the rows of each condition."""
    parts: list[Activations] = []
    null_rows: dict[object, range] = {}
    decoy_rows: dict[int, range] = {}  # readings of one dialog share them

    def add(part: Activations) -> range:
        parts.append(part)
        end = sum(map(len, parts))
        return range(end - len(part), end)

    conditions = []
    for reading in readings:
        rows = add(reading.activations)
        # Where the write operation ignores a vector's norm, dialogs with as many tokens have the same noise.
        n_hidden = int(reading.activations.n_hidden) * decoder.config.shift_positions
        key = (int(reading.activations.mask.sum()), n_hidden) if decoder.write.rescales else rows
        if key not in null_rows:
            null_rows[key] = add(null_activations(reading.activations, decoder.write, seed=seed))
        condition = {ACTIVATIONS: rows, "no_activation": rows, "null": null_rows[key]}
        if reading.decoys is not None:
            if id(reading.decoys) not in decoy_rows:
                decoy_rows[id(reading.decoys)] = add(reading.decoys)
            condition["shuffled"] = decoy_rows[id(reading.decoys)]
        conditions.append(condition)
    return Activations.cat(parts), conditions

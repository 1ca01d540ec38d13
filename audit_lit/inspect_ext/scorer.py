"""A scorer for the transcripts of any Inspect task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from threading import Lock
from typing import TYPE_CHECKING, Any

from anyio import to_thread
from inspect_ai.model import ChatMessage
from inspect_ai.scorer import Score, Scorer, Target, mean, scorer, stderr
from inspect_ai.solver import TaskState
from inspect_ai.util import concurrency

from audit_lit.answers.answer import Answer
from audit_lit.chat.dialog import Dialog, Reveal
from audit_lit.chat.formats.inspect_log import dumped
from audit_lit.chat.messages import read_dialog
from audit_lit.chat.vocabulary import LABEL_QUESTION, NO_INSTRUCTION, PROMPT_QUESTION
from audit_lit.errors import ActivationError, DialogError
from audit_lit.files.documents import decode_json
from audit_lit.files.writing import dump_json
from audit_lit.models.smollm2 import ALIAS

if TYPE_CHECKING:
    from audit_lit.auditor import Auditor

OPEN_WEIGHTS = ("hf", "tl_bridge")
"""Providers whose model names are folders or Hub ids: Inspect's own, and TransformerLens'."""
_ONE_AT_A_TIME = Lock()  # besides Inspect's semaphore, which a user can widen while an evaluation runs


@scorer(metrics=[mean(), stderr()])  # type: ignore[untyped-decorator]
def lit_scorer(
    questions: str | Sequence[str] = (LABEL_QUESTION, PROMPT_QUESTION),
    target: str | None = None,
    decoder: str = "default",
    reveal: Reveal = "user",
    samples: int = 2,
    max_new_tokens: int = 40,
    expected: str | None = NO_INSTRUCTION,
    min_lift: float | None = None,
    layer: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    device_map: str | dict[str, Any] | None = None,
    n_devices: int | None = None,
    max_memory: dict[Any, Any] | None = None,
    quantization: str | None = None,
) -> Scorer:
    """Ask a decoder about each sample's transcript, which runs through the target again and is read there.

    The value is 1 if the answer to the *first* question is supported and not the expected one, else 0. So the mean is
    the share of transcripts with something to report, and further questions cannot raise it. 0 is not a clean bill of
    health. The ``metadata``'s ``answers`` hold every ``Answer.to_dict()``, controls and lift included. Messages that
    are not read (images, reasoning, tools that the chat template does not render), more tokens than the target's
    context holds, and a decoder whose threshold was not measured give no value (``Score.unscored``), but an
    explanation.

    System messages are hidden from the decoder unless their ``metadata`` holds ``{"hidden": False}``; other messages
    are shown unless it holds ``{"hidden": True}``. A ``--system-message`` is not part of the transcript, so the scorer
    does not know it. While it scores, it raises an ``AuditLitError`` if the models cannot be loaded or do not fit.

    Args:
        questions: One question, or several.
        target: The model to read: ``smollm2-135m``, a folder or a Hub id. None reads an evaluated ``hf/NAME`` or
            ``tl_bridge/NAME`` (TransformerLens' provider) by the same name, loaded once more, and else
            ``smollm2-135m``. If the audited model has a role instead, such as Petri's ``target``, name it.
        decoder: The model that answers: ``default``, a folder or a Hub id.
        reveal: Whose activations are read (see ``Auditor.ask``). With ``user``, the transcript ends before the reply to
            the last user turn.
        samples: Number of further answers per question.
        max_new_tokens: Length of the longest answer, in tokens.
        expected: The first answer where nothing is wrong.
        min_lift: Lift that counts as support, in nats per token, where the decoder's measured threshold is not higher.
        layer: The layer to read, for a decoder that reads one of several.
        device: Where to run, as torch names it; None is the CPU, unless the target is split.
        dtype: Type of the target's weights, as in ``load_target``; None is float32.
        device_map: How the target is split, as there.
        n_devices: Over how many GPUs it is split evenly.
        max_memory: With either of these, the most that each device may hold, such as ``{"0": "20GiB"}``.
        quantization: ``8bit`` or ``4bit``.
    """
    weights = {
        "device": device,
        "dtype": dtype,
        "device_map": device_map,
        "n_devices": n_devices,
        "max_memory": max_memory,
        "quantization": quantization,
    }
    target_name = target  # in ``score``, Inspect's name for a sample's reference answer is ``target``
    question_list = [questions] if isinstance(questions, str) else list(questions)
    settings = {"reveal": reveal, "samples": samples, "max_new_tokens": max_new_tokens}

    async def score(state: TaskState, target: Target) -> Score:  # noqa: ARG001
        evaluated = str(state.model.name) if state.model.api in OPEN_WEIGHTS else ALIAS
        models = (target_name or evaluated, decoder, layer, dump_json(weights))
        try:
            dialog = read_dialog(list(map(dumped, _part_to_read(state.messages, reveal))))
            async with concurrency("audit-lit", 1):
                answers = await to_thread.run_sync(partial(_ask, models, dialog, question_list, **settings))
        except (DialogError, ActivationError) as err:
            return Score.unscored(reason="scoring_failed", explanation=f"The transcript was not read: {err}")
        from audit_lit.decoder.calibration import highest  # here, since it imports torch

        answers = [replace(answer, threshold=highest(answer.threshold, min_lift)) for answer in answers]
        return _score(answers, expected)

    return score


def _part_to_read(messages: list[ChatMessage], reveal: Reveal) -> list[ChatMessage]:
    """End at the last visible user turn if that is read and a reply follows.

    What follows cannot change that turn's activations. But the state right before the reply is read with the turn only
    if the turn stands last.
    """
    visible = [not (message.metadata or {}).get("hidden") for message in messages]
    ends = [index + 1 for index, message in enumerate(messages) if message.role == "user" and visible[index]]
    if reveal != "user" or not ends or [message.role for message in messages[ends[-1] :][:1]] != ["assistant"]:
        return messages
    return messages[: ends[-1]]


def _ask(models: tuple[Any, ...], dialog: Dialog, questions: list[str], **settings: Any) -> list[Answer]:
    with _ONE_AT_A_TIME:
        return _auditor(*models).ask(dialog, questions, **settings)


@cache
def _auditor(target_name: str, decoder: str, layer: int | None, weights: str) -> Auditor:
    """Return the auditor of two models; ``weights`` is JSON with what ``load_target`` is told about weights."""
    from audit_lit import Auditor, Decoder, load_target
    from audit_lit.display.libraries import quiet_libraries

    quiet_libraries()  # their progress bars would write across Inspect's display
    options = decode_json(weights)
    limits = (options.pop("max_memory") or {}).items()  # in JSON, and so in Inspect's logs, every key is text
    sizes = {int(place) if place.isdecimal() else place: size for place, size in limits}
    target = load_target(target_name, **options, max_memory=sizes or None)
    return Auditor(target, Decoder.from_pretrained(decoder, target=target), layer=layer)


def _score(answers: list[Answer], expected: str | None) -> Score:
    """Return whether the first answer is supported, with every answer in words and as data."""
    first = answers[0]
    in_words = "\n\n".join(f"{answer.question}\n{answer.text}\n{answer.verdict}" for answer in answers)
    details = {
        "answer": first.text,
        "explanation": f"Read in {first.target}.\n\n{in_words}",
        "metadata": {"answers": [answer.to_dict() for answer in answers]},
    }
    if first.threshold is None:
        return Score.unscored(reason="threshold_not_measured", **details)
    return Score(value=float(first.supported and first.text != expected), **details)

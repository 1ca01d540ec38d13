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

from audit_lit.chat.dialog import Reveal
from audit_lit.chat.vocabulary import LABEL_QUESTION, NO_INSTRUCTION, PROMPT_QUESTION
from audit_lit.errors import ActivationError, DialogError
from audit_lit.models.loading import quiet_libraries
from audit_lit.models.smollm2 import ALIAS

if TYPE_CHECKING:
    from audit_lit.answers.answer import Answer
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
    device: str = "cpu",
) -> Scorer:
    """Ask a decoder about each sample's transcript, which runs through the target again and is read there.

    The value is 1 if the answer to the *first* question is supported and not the expected one, else 0: the mean is the
    share of transcripts with something to report, and further questions cannot raise it. 0 is not a clean bill of
    health. Messages that no dialog can hold (tools, images, reasoning), more tokens than the target's context, or a
    decoder whose threshold nobody measured, give no value (``Score.unscored``) and an explanation. The ``metadata``'s
    ``answers`` hold every ``Answer.to_dict()``, controls and lift included.

    System messages are hidden from the decoder, and messages with ``{"hidden": True}`` in their ``metadata``; False
    shows them. A ``--system-message`` is part of no transcript, so it is not known here.

    Args:
        questions: One, or several.
        target: Model to read: ``smollm2-135m``, a folder or a Hub id. None reads an evaluated ``hf/NAME`` or
            ``tl_bridge/NAME`` (TransformerLens' provider) by the same name, loaded once more in float32, and else
            ``smollm2-135m``. If the audited model has a role instead, such as Petri's ``target``, name it.
        decoder: Model that answers: ``default``, a folder or a Hub id.
        reveal: Whose activations are read (see ``Auditor.ask``). With ``user``, the transcript ends before the reply to
            the last user turn.
        samples: Further answers per question.
        max_new_tokens: Longest answer.
        expected: What the first answer would be where nothing is wrong.
        min_lift: Lift that counts as support, in nats per token; None takes the decoder's measured threshold.
        layer: Layer to read, for a decoder that reads one of several.
        device: Where to run, as torch names it.

    While it scores, it raises an ``AuditLitError`` if the models cannot be loaded or do not fit.
    """
    named = target  # in ``score``, Inspect calls a sample's reference answer so
    asked = [questions] if isinstance(questions, str) else list(questions)
    settings = {"reveal": reveal, "samples": samples, "max_new_tokens": max_new_tokens}

    async def score(state: TaskState, target: Target) -> Score:  # noqa: ARG001
        models = (named or _evaluated(state), decoder, layer, device)
        try:
            dialog = [_to_dialog(index, message) for index, message in enumerate(_read_part(state.messages, reveal))]
            async with concurrency("audit-lit", 1):
                answers = await to_thread.run_sync(partial(_ask, models, dialog, asked, settings))
        except (DialogError, ActivationError) as err:
            return Score.unscored(reason="scoring_failed", explanation=f"The transcript was not read: {err}")
        kept = [answer if min_lift is None else replace(answer, threshold=min_lift) for answer in answers]
        return _score(kept, expected)

    return score


def _evaluated(state: TaskState) -> str:
    """Return the name of the evaluated model if it has open weights, else the default target's."""
    return str(state.model.name) if state.model.api in OPEN_WEIGHTS else ALIAS


def _read_part(messages: list[ChatMessage], reveal: Reveal) -> list[ChatMessage]:
    """End at the last user turn if that is read: what follows cannot change it, but would take the state before it."""
    shown = [at for at, one in enumerate(messages) if one.role == "user" and not (one.metadata or {}).get("hidden")]
    if reveal != "user" or not shown or [one.role for one in messages[shown[-1] + 1 :][:1]] != ["assistant"]:
        return messages
    return messages[: shown[-1] + 1]


def _to_dialog(index: int, message: ChatMessage) -> dict[str, Any]:
    """Return a message as ``Auditor.ask`` takes it; to drop what does not fit would audit another transcript."""
    parts = [] if isinstance(message.content, str) else [part.type for part in message.content]
    other = {*parts} - {"text"} | ({"tool calls"} if getattr(message, "tool_calls", None) else set())
    if message.role == "tool" or other:
        raise DialogError(
            f"message {index} ({message.role}) holds {', '.join(sorted(other)) or 'what a tool returned'}; expected "
            "text of system, user and assistant. Score a task without that, or end state.messages before it."
        )
    marks = {key: value for key, value in (message.metadata or {}).items() if key == "hidden"}
    return {"role": message.role, "content": message.text, **marks}


def _ask(models: tuple[Any, ...], dialog: list[Any], questions: list[str], settings: dict[str, Any]) -> list[Answer]:
    with _ONE_AT_A_TIME:
        return _auditor(*models).ask(dialog, questions, **settings)


@cache
def _auditor(target: str, decoder: str, layer: int | None, device: str) -> Auditor:
    from audit_lit import Auditor, Decoder, load_target

    quiet_libraries()  # their progress bars would write across Inspect's display
    model = load_target(target, device=device)
    return Auditor(model, Decoder.from_pretrained(decoder, target=model), layer=layer)


def _score(answers: list[Answer], expected: str | None) -> Score:
    """Return the first answer's support; every answer in words, and as data."""
    first = answers[0]
    said = "\n\n".join(f"{answer.question}\n{answer.text}\n{answer.verdict}" for answer in answers)
    found = {
        "answer": first.text,
        "explanation": f"Read in {first.target}.\n\n{said}",
        "metadata": {"answers": [answer.to_dict() for answer in answers]},
    }
    if first.threshold is None:
        return Score.unscored(reason="threshold_not_measured", **found)
    return Score(value=float(first.supported and first.text != expected), **found)

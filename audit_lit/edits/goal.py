"""The goal of an edit: questions, and the answers that the decoder should give about the edited model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from audit_lit.answers.session import Session
from audit_lit.chat.decoys import POOL
from audit_lit.chat.dialog import Dialog
from audit_lit.chat.messages import read_dialog
from audit_lit.chat.vocabulary import LABEL_QUESTION, PROMPT_QUESTION
from audit_lit.errors import EditError
from audit_lit.files.documents import check_text
from audit_lit.models.blocks import context_length
from audit_lit.models.capture import capture_batch

Pair = tuple[str, str]
Text = TypeVar("Text", str, str | None)
GoalLike = str | Sequence[Pair] | Dialog
"""A sentence such as ``"Please talk like a pirate."``, questions with answers, or messages to put before a dialog."""

N_READ = 8
"""Number of dialogs in which the decoder is asked about a control prompt."""


@dataclass(frozen=True)
class Goal:
    """What the model should be like: questions, and what the decoder should answer."""

    text: str
    """The goal as a system prompt, which the control ``prompting`` uses."""
    pairs: tuple[Pair, ...]
    contrast: str | None = None
    """The opposite of ``text``, for the control ``caa``; None compares with no system prompt."""

    def reworded(self, prompt: str | None, contrast: str | None) -> Goal:
        """Return the same goal with other words for the controls; None keeps the present ones."""
        return replace(self, text=worded(prompt, self.text), contrast=worded(contrast, self.contrast))

    def shuffled(self) -> Goal:
        """Return the same questions, four times each, with answers that ask for other things."""
        goal_texts = {self.text, *(answer for _, answer in self.pairs)}
        answers = [text for text in POOL if text not in goal_texts]
        pairs = tuple((question, answers[index % len(answers)]) for index, (question, _) in enumerate(self.pairs * 4))
        return replace(self, pairs=pairs)


def worded(words: Any, otherwise: Text) -> str | Text:
    """Return a caller's words for a goal, or others if there are None; raise ``EditError`` for what says nothing."""
    if words is None:
        return otherwise
    if not isinstance(words, str) or not words.strip():
        raise EditError(f"got {words!r:.80} for the words of a goal; expected a sentence, or None.")
    check_text(words, "the goal", EditError)
    return words


def goal_of(content: Any, session: Session, dialogs: Sequence[Dialog]) -> Goal:
    """Return a goal as questions and answers.

    - A sentence is what the decoder should say that the hidden prompt says.
    - Questions with answers are taken as they are.
    - Messages (a control prompt) run before the dialogs, and the decoder's own answers about them are the goal
      (LatentQA, arXiv 2412.08686, section 3.3).
    """
    goal = _goal_of(content or "", session, dialogs)
    if not all(text.strip() for pair in goal.pairs for text in pair):
        raise EditError("the goal is empty; expected a sentence such as 'Please talk like a pirate.'.")
    for text in (text for pair in goal.pairs for text in pair):
        check_text(text, "the goal", EditError)
    n_ctx = context_length(session.decoder.model)
    longest = max(len(session.decoder.answer_ids(answer)) for _, answer in goal.pairs)
    if n_ctx and longest >= n_ctx:
        raise EditError(f"an answer has {longest} tokens; the decoder's context holds {n_ctx}. Use fewer words.")
    return goal


def _goal_of(content: Any, session: Session, dialogs: Sequence[Dialog]) -> Goal:
    if isinstance(content, str):
        text = content.strip()
        return Goal(text, ((PROMPT_QUESTION, text),))
    if isinstance(content, list | tuple) and isinstance(content[0], Mapping):
        return _goal_of_control_prompt(list(content), session, dialogs)
    if not isinstance(content, list | tuple) or not all(map(_is_pair, content)):
        raise EditError(f"got {content!r}; expected a sentence, pairs of question and answer, or messages.")
    pairs = tuple((question, answer) for question, answer in content)
    return Goal(" ".join(dict.fromkeys(answer for _, answer in pairs)), pairs)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(text, str) for text in value)


def _goal_of_control_prompt(control: list[Any], session: Session, dialogs: Sequence[Dialog]) -> Goal:
    """Ask the decoder about dialogs under a control prompt; its most frequent answer to each question is the goal."""
    if not dialogs:
        raise EditError("there are no dialogs; expected some that the edited model should behave in.")
    target, decoder = session.target, session.decoder
    messages = read_dialog(control)
    hidden = [{**message, "hidden": True} for message in messages]
    rendered = [decoder.config.render([*hidden, *dialog], target.tokenizer) for dialog in dialogs[:N_READ]]
    positions = [decoder.config.select(dialog, "user") for dialog in rendered]
    activations = capture_batch(target, rendered, positions, decoder.config.read_layers)
    pairs = []
    for question in (LABEL_QUESTION, PROMPT_QUESTION):
        answers = Counter(decoder.answer(activations, [question] * len(activations)))
        pairs.append((question, answers.most_common(1)[0][0]))
    return Goal(" ".join(message["content"] for message in messages), tuple(pairs))

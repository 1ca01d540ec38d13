"""What an edit is to achieve, as questions and the answers that the decoder should give about the edited model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from audit_lit.activations import read
from audit_lit.decoys import POOL
from audit_lit.dialog import Dialog, check_dialog, render
from audit_lit.errors import EditError
from audit_lit.questions import LABEL_QUESTION, PROMPT_QUESTION

if TYPE_CHECKING:
    from audit_lit.decoder import Decoder
    from audit_lit.target import Target

Pair = tuple[str, str]
Wanted = str | Sequence[Pair] | Dialog
"""A sentence such as ``"Please talk like a pirate."``, questions with answers, or messages to put before a dialog."""

N_READ = 8


@dataclass(frozen=True)
class Want:
    """What the model should be like.

    Attributes:
        text: As it would be said to the model: the control ``prompting`` says it.
        pairs: Questions, and what the decoder should answer.
        contrast: The opposite of ``text``, for the control ``caa``; None compares with no system prompt.
    """

    text: str
    pairs: tuple[Pair, ...]
    contrast: str | None = None

    def said(self, prompt: str | None, contrast: str | None) -> Want:
        """Return the same want in other words for the controls; None leaves them."""
        return replace(self, text=prompt or self.text, contrast=contrast or self.contrast)

    def shuffled(self) -> Want:
        """Return the same questions with answers that ask for something else, each for another."""
        wanted = {self.text, *(answer for _, answer in self.pairs)}
        others = [text for text in POOL if text not in wanted]
        pairs = tuple((question, others[at % len(others)]) for at, (question, _) in enumerate(self.pairs * 4))
        return replace(self, pairs=pairs)


def want_of(wanted: Any, target: Target, decoder: Decoder, dialogs: Sequence[Dialog]) -> Want:
    """Return what is wanted, in questions and answers.

    - A sentence is what the decoder should say that the hidden prompt says.
    - Questions with answers are taken as they are.
    - Messages (a control prompt) run before the dialogs, and the decoder's own answers about them are what is wanted
      (LatentQA, arXiv 2412.08686, section 3.3).

    Raises:
        EditError: If nothing is asked for, or an answer does not fit the decoder's context.
        DialogError: If the messages are malformed.
    """
    if isinstance(wanted, str):
        return _checked(Want(wanted.strip(), ((PROMPT_QUESTION, wanted.strip()),)), decoder)
    given = wanted or ()
    if isinstance(given, list | tuple) and given and isinstance(given[0], Mapping):
        return _checked(_read(list(given), target, decoder, dialogs), decoder)
    if not isinstance(given, list | tuple) or not all(_is_pair(one) for one in given):
        raise EditError(f"got {wanted!r}; expected a sentence, pairs of question and answer, or messages.")
    pairs = tuple((question, answer) for question, answer in given)
    return _checked(Want(" ".join(dict.fromkeys(answer for _, answer in pairs)), pairs), decoder)


def _is_pair(one: Any) -> bool:
    return isinstance(one, list | tuple) and len(one) == 2 and all(isinstance(text, str) for text in one)


def _read(control: list[Any], target: Target, decoder: Decoder, dialogs: Sequence[Dialog]) -> Want:
    """Ask the decoder about dialogs under a control prompt; what it says most often of each question is wanted."""
    check_dialog(control)
    if not dialogs:
        raise EditError("there are no dialogs; expected some that the edited model should behave in.")
    hidden = [{**message, "hidden": True} for message in control]
    rendered = [render([*hidden, *dialog], target.tokenizer) for dialog in dialogs[:N_READ]]
    places = [decoder.protocol.select(one, "user") for one in rendered]
    rows = read(target, rendered, places, decoder.protocol.read_layers)
    pairs = []
    for question in (LABEL_QUESTION, PROMPT_QUESTION):
        said = Counter(decoder.answer(rows, [question] * len(rows)))
        pairs.append((question, said.most_common(1)[0][0]))
    return Want(" ".join(message["content"] for message in control), tuple(pairs))


def _checked(want: Want, decoder: Decoder) -> Want:
    if not want.pairs or not all(text.strip() for pair in want.pairs for text in pair):
        raise EditError("what is wanted is empty; expected a sentence such as 'Please talk like a pirate.'.")
    n_ctx = getattr(decoder.model.config, "max_position_embeddings", None)
    longest = max(len(decoder.answer_ids(answer)) for _, answer in want.pairs)
    if n_ctx and longest >= n_ctx:
        raise EditError(f"an answer has {longest} tokens; the decoder's context holds {n_ctx}. Say it in fewer words.")
    return want

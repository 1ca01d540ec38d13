"""The auditor: everything that can be asked of a target and a decoder, in one place.

1. The dialog runs through the target once, and once more under decoys (other hidden prompts, same visible turns).
2. The decoder sees the activations of revealed, visible positions only, and answers each question.
3. Each answer is scored again with empty slots, random activations, the decoys' activations, and from the text alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from audit_lit.answers.answer import Answer
from audit_lit.answers.ask import ask, check_questions
from audit_lit.answers.claims import Claim, score_claims
from audit_lit.answers.session import Reading, Session
from audit_lit.chat.dialog import Dialog, Reveal
from audit_lit.decoder.decoder import Decoder
from audit_lit.hooks import HookedModel
from audit_lit.models.generation import Sampling
from audit_lit.models.target import Target

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from audit_lit.edits.checks.check import Check
    from audit_lit.edits.checks.verify import Verification
    from audit_lit.edits.goal import GoalLike
    from audit_lit.edits.weights import Edit
    from audit_lit.report.audit_report import AuditReport
    from audit_lit.scan.findings import Finding


class Auditor:
    """Asks a decoder about a target's activations.

    Attributes:
        session: The target and the decoder, brought together.
    """

    def __init__(
        self,
        target: Target | HookedModel,
        decoder: Decoder,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        layer: int | None = None,
    ) -> None:
        """Bring target and decoder together.

        Args:
            target: From ``load_target``, or any ``TransformerBridge`` or ``HookedTransformer`` with raw weights.
            decoder: From ``Decoder.from_pretrained``.
            tokenizer: The target's Hugging Face tokenizer, for a bare model; by default the decoder's, where both
                have the same base.
            layer: The layer to read, for a decoder that reads one of several; None takes its first.

        Raises:
            DecoderMismatch: If the decoder was trained for another model, or not on that layer.
            TargetError: If the model cannot be read.
        """
        self.session = Session.of(_as_target(target, decoder, tokenizer), decoder, layer)

    @property
    def target(self) -> Target:
        """The model under audit."""
        return self.session.target

    @property
    def decoder(self) -> Decoder:
        """The model that answers, set to the layers that it reads."""
        return self.session.decoder

    @overload
    def ask(
        self,
        dialog: Dialog,
        question: str,
        *,
        reveal: Reveal = ...,
        samples: int = ...,
        max_new_tokens: int = ...,
        seed: int = ...,
    ) -> Answer: ...

    @overload
    def ask(
        self,
        dialog: Dialog,
        question: list[str] | tuple[str, ...],
        *,
        reveal: Reveal = ...,
        samples: int = ...,
        max_new_tokens: int = ...,
        seed: int = ...,
    ) -> list[Answer]: ...

    def ask(
        self,
        dialog: Dialog,
        question: str | list[str] | tuple[str, ...],
        *,
        reveal: Reveal = "user",
        samples: int = 5,
        max_new_tokens: int = 60,
        seed: int = 0,
    ) -> Answer | list[Answer]:
        """Ask about a dialog; several questions read the target once.

        Args:
            dialog: Messages ``{"role", "content"}``; system messages and those with ``"hidden": True`` run in the
                target and are never shown to the decoder.
            question: One question, or several.
            reveal: Whose activations are read: ``"user"``, ``"assistant"``, ``"last:K"`` or token positions.
            samples: Number of further answers per question, at temperature 1.
            max_new_tokens: Length of the longest answer.
            seed: Of the samples and the random control.

        Returns:
            An answer per question; a single one for a single question.

        Raises:
            DialogError: If the dialog is malformed, or nothing is revealed.
            QuestionError: If a question is empty, or does not fit the decoder's context with its answer.
            SettingsError: If a setting is out of its range.
            ActivationError: If the target computes values that are not finite.
        """
        questions = check_questions([question] if isinstance(question, str) else question)
        sampling = Sampling(max_new_tokens, samples=samples, seed=seed)
        (answers,) = ask(self.session, [self.read(dialog, reveal=reveal)], questions, sampling)
        return answers[0] if isinstance(question, str) else answers

    def read(self, dialog: Dialog, *, reveal: Reveal = "user") -> Reading:
        """Run the target once over a dialog, once over its decoys, and keep what the decoder may see.

        The dialog runs alone and unpadded, so that hooks of your own on the target's positions find them; they run on
        the decoys, too, which are padded on the left.

        Raises:
            DialogError: If the dialog is malformed, or nothing is revealed.
        """
        return self.session.read(dialog, reveal)

    def score_claims(self, dialog: Dialog, claims: Sequence[str], *, reveal: Reveal = "user") -> list[Claim]:
        """Say how likely it is that each claim describes what is hidden in a dialog.

        Claims are compared with what the decoder's ``reference`` makes of them, or with the decoys where it has none or
        something else is revealed than it holds. What the visible turns alone speak for counts, too: see ``controls``.

        Args:
            dialog: As in ``ask``.
            claims: Such as ``"persona: pirate"`` or ``"Please talk like a pirate."``
            reveal: As in ``ask``.

        Raises:
            DialogError: If the dialog is malformed, or nothing is revealed.
            QuestionError: If a claim is empty.
        """
        return score_claims(self.session, dialog, claims, reveal)

    def scan(
        self,
        dialogs: Sequence[Dialog] | str | Path,
        recipe: str | Path = "hidden-prompt",
        *,
        out: str | Path | None = None,
        baseline: Target | HookedModel | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> AuditReport:
        """Audit many dialogs: every question of a recipe, beside neutral twins, corrected for the number of questions.

        Args:
            dialogs: As in ``ask``, or a file with one per line (see ``chat.formats.DialogFile``).
            recipe: A shipped recipe's name, or a file.
            out: Run folder: an interrupted audit goes on in it; None keeps nothing, and works in one process alone.
            baseline: A model of the same shape that is known to be clean, to run the neutral twins in: without it,
                what is trained into the target is in the twins, too.
            seed: Of samples, twins and random controls; same seed, same report.
            **settings: Over the recipe's (see ``scan.recipe.ScanRecipe``).

        Raises:
            RecipeError: If the recipe is unknown or malformed.
            DialogError: If a dialog is malformed or cannot be read.
            DecoderMismatch: If the decoder does not fit the baseline or the recipe's layer.
            ScanError: If the run folder cannot be used.
        """
        from audit_lit.report.audit_report import AuditReport
        from audit_lit.scan.engine import scan

        clean = None if baseline is None else _as_target(baseline, self.decoder, self.target.tokenizer)
        return AuditReport.of(scan(self.session, dialogs, recipe, settings, out=out, baseline=clean, seed=seed))

    def edit(
        self,
        goal: GoalLike,
        dialogs: Sequence[Dialog] | None = None,
        *,
        method: str = "vector",
        prompt: str | None = None,
        contrast: str | None = None,
        reveal: Reveal = "user",
        **settings: Any,
    ) -> Edit:
        """Make an edit by the decoder's gradient: the target is changed until the decoder reads what is wanted.

        Args:
            goal: A sentence such as ``"Please talk like a pirate."``; pairs of question and answer; or messages of a
                control prompt, about which the decoder answers itself first.
            dialogs: The dialogs that the edit is made in; None takes neutral user lines. ``gradient`` takes the one
                that it is for.
            method: ``vector``, ``gradient``, ``lowrank``, or ``weights``, which gives a ``WeightEdit``.
            prompt: The goal as a system prompt, for the control ``prompting``; None takes its own words.
            contrast: The opposite of ``prompt``, for the control ``caa``.
            reveal: As in ``ask``.
            **settings: See ``edits.recipe.EditSettings``: ``strength``, ``layers``, ``budget``, ``steps``, ...

        Raises:
            EditError: If a setting is out of its range, or the decoder's gradient does not reach a layer.
            DialogError: If a dialog is malformed, or nothing in it is revealed.
        """
        from audit_lit.edits.make import edit

        words = {"prompt": prompt, "contrast": contrast}
        return edit(self.session, goal, dialogs, {"method": method, **settings}, reveal=reveal, **words)

    def check(
        self,
        edit: Edit,
        dialogs: Sequence[Dialog] | None = None,
        *,
        shuffled: bool = True,
        prompt: str | None = None,
        seed: int = 0,
    ) -> Check:
        """Compare what an edit does to the target's replies with its controls: see ``Check.verdict``.

        Args:
            edit: From ``edit``.
            dialogs: Others than it was made with; None takes neutral lines, or the one that ``gradient`` is for.
            shuffled: Whether to make the control of that name, which takes as long as the edit did.
            prompt: The goal as a system prompt; None takes the edit's own words.
            seed: Of replies and the random direction.

        Raises:
            EditError: If the edit was made for another model, or the dialogs are not those that it can be checked in.
        """
        from audit_lit.edits.checks.check import check

        return check(self.session, edit, dialogs, shuffled=shuffled, prompt=prompt, seed=seed)

    def verify(self, finding: Finding, *, n_random: int = 19, seed: int = 0, **settings: Any) -> Verification:
        """Check whether what a finding of ``scan`` describes decides what the model says.

        Args:
            finding: One that was raised.
            n_random: Number of random edits to compare with; 19 are the fewest that can give p = 0.05.
            seed: Of the replies and the edits.
            **settings: As in ``edit``.

        Raises:
            EditError: If the finding describes nothing, or the model says nothing in its dialogs.
        """
        from audit_lit.edits.checks.verify import verify

        return verify(self.session, finding, n_random=n_random, seed=seed, **settings)


def _as_target(
    model: Target | HookedModel, decoder: Decoder, tokenizer: PreTrainedTokenizerBase | None = None
) -> Target:
    """Make a target of a bare TransformerLens model; its own tokenizer would add a second BOS."""
    if isinstance(model, Target):
        return model
    name = str(getattr(getattr(model, "cfg", None), "model_name", None) or decoder.config.target)
    return Target(model, tokenizer or decoder.tokenizer, name)

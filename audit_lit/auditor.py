"""The auditor: every kind of audit of one target by one decoder, behind one object.

1. The target runs once over the dialog, and once over its decoys: the same visible turns after other hidden prompts.
2. The decoder sees the activations of revealed, visible positions alone, and answers each question.
3. Each answer is scored again with empty slots, random activations, the decoys' activations, and the text alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from audit_lit.answers.answer import Answer
from audit_lit.answers.ask import ask, check_questions
from audit_lit.answers.claims import Claim, score_claims
from audit_lit.answers.reading import Reading
from audit_lit.answers.session import Session, one_at_a_time
from audit_lit.calibration.calibrate import PARTS, calibrate
from audit_lit.calibration.settings import CalibrationSettings
from audit_lit.chat.dialog import Dialog, Reveal
from audit_lit.decoder.calibration import CalibrationRecord
from audit_lit.decoder.decoder import Decoder, check_decoder
from audit_lit.edits.checks.check import Check, check
from audit_lit.edits.checks.verify import Verification, verify
from audit_lit.edits.goal import GoalLike
from audit_lit.edits.make import edit
from audit_lit.edits.weights import Edit
from audit_lit.errors import SettingsError
from audit_lit.hooks import HookedModel
from audit_lit.models.generation import Sampling
from audit_lit.models.target import Target
from audit_lit.models.wrapping import as_target
from audit_lit.organisms.library import Library, check_library, shipped_library
from audit_lit.report.audit_report import AuditReport
from audit_lit.scan.engine import scan
from audit_lit.scan.finding import Finding

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Auditor:
    """Audits a target with a decoder. Threads may share it: their calls run one after another.

    Attributes:
        session: The target and the decoder that fits it.
    """

    def __init__(
        self,
        target: Target | HookedModel | PreTrainedModel,
        decoder: Decoder,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        layer: int | None = None,
        baseline: Target | HookedModel | PreTrainedModel | None = None,
        library: Library | None = None,
    ) -> None:
        """Bring target and decoder together.

        Args:
            target: The result of ``load_target``, any TransformerLens model with raw weights, or a Hugging Face causal
                language model, also with a LoRA by PEFT.
            decoder: The result of ``Decoder.from_pretrained``.
            tokenizer: The Hugging Face tokenizer of a bare model; None takes the decoder's, which fits if both have
                the same base.
            layer: The layer to read, for a decoder that reads one of several; None takes its first.
            baseline: The model that the target was trained from. With it, ``ask``, ``score_claims`` and recipes for it
                speak of what training changed.
            library: Organisms of the baseline to compare with; None takes those that ship for it.

        Raises:
            DecoderMismatch: If the decoder was trained for another model, or not on that layer, or is none.
            TargetError: If a model or the tokenizer cannot be read, or the baseline is of another shape.
            SettingsError: If the library is none, or has no baseline beside it.
        """
        check_decoder(decoder)
        check_library(library)
        given = decoder.tokenizer if tokenizer is None else tokenizer
        audited = as_target(target, given)
        session = Session.of(audited, decoder, layer)
        if baseline is None and library is not None:
            raise SettingsError(
                "got a library of organisms, and no baseline to tell by what training changed; expected baseline=BASE, "
                "the model that the target was trained from. Or leave the library out."
            )
        if baseline is not None:
            clean = as_target(baseline, given)
            session = session.contrasted(clean, shipped_library(clean) if library is None else library)
        self.session = session

    @classmethod
    def without_target(cls, decoder: Decoder, *, layer: int | None = None) -> Auditor:
        """Return an auditor that is asked about readings of files alone (see docs/activations.md).

        Raises:
            DecoderMismatch: If the decoder was not trained on that layer, or is none.
        """
        check_decoder(decoder)
        auditor = cls.__new__(cls)
        auditor.session = Session.of(None, decoder, layer)
        return auditor

    def __repr__(self) -> str:
        """Return target and decoder."""
        target = self.session.given_target
        return f"<Auditor of {'files, without a target,' if target is None else repr(target)} by {self.decoder!r}>"

    @property
    def target(self) -> Target:
        """The model under audit."""
        return self.session.target

    @property
    def decoder(self) -> Decoder:
        """The decoder, set to the layers that it reads."""
        return self.session.decoder

    @overload
    def ask(
        self,
        dialog: Dialog | Reading,
        question: str,
        *,
        reveal: Reveal = ...,
        samples: int = ...,
        max_new_tokens: int | None = ...,
        seed: int = ...,
    ) -> Answer: ...

    @overload
    def ask(
        self,
        dialog: Dialog | Reading,
        question: list[str] | tuple[str, ...],
        *,
        reveal: Reveal = ...,
        samples: int = ...,
        max_new_tokens: int | None = ...,
        seed: int = ...,
    ) -> list[Answer]: ...

    @one_at_a_time
    def ask(
        self,
        dialog: Dialog | Reading,
        question: str | list[str] | tuple[str, ...] = (),
        *,
        reveal: Reveal = "user",
        samples: int = 5,
        max_new_tokens: int | None = None,
        seed: int = 0,
    ) -> Answer | list[Answer]:
        """Ask about a dialog; several questions read the target once.

        Args:
            dialog: Messages ``{"role", "content"}``, also with the extras of OpenAI, Anthropic and Inspect (see
                ``chat.messages.read_dialog``); system messages and those with ``"hidden": True`` run in the target,
                and are never shown to the decoder. An assistant's last message with ``"prefill": True`` stays open.
                Also a document ``{"messages": ...}``, as files hold it. Or a reading, such as ``Reading.load(file)``:
                then the target does not run.
            question: One question, or several.
            reveal: Whose activations are read: ``"user"``, ``"assistant"``, ``"last:K"`` or token positions.
            samples: Number of further answers per question, at temperature 1.
            max_new_tokens: Length of the longest answer in tokens; None takes the decoder's own, else 60.
            seed: Seed of the samples and of the control ``null``.

        Returns:
            An answer to each question; a single answer if ``question`` is a string.

        Raises:
            DialogError: If the dialog is malformed, or nothing is revealed.
            QuestionError: If a question is empty, or does not fit the decoder's context with its answer.
            SettingsError: If a setting is out of its range.
            ActivationError: If the target computes values that are not finite, or a reading does not fit the decoder.
            DecoderMismatch: If a reading is of another model.
        """
        questions = check_questions([question] if isinstance(question, str) else question)
        sampling = Sampling(self.decoder.longest(max_new_tokens), samples=samples, seed=seed)
        (answers,) = ask(self.session, [self.session.read(dialog, reveal)], questions, sampling)
        return answers[0] if isinstance(question, str) else answers

    @one_at_a_time
    def read(self, dialog: Dialog, *, reveal: Reveal = "user") -> Reading:
        """Run the target once over a dialog and once over its decoys, and keep what the decoder may see.

        The dialog runs alone and without padding, so that your own hooks on the target find their positions. They run
        on the decoys as well, which are padded on the left.

        Raises:
            DialogError: If the dialog is malformed, or nothing is revealed.
        """
        return self.session.read(dialog, reveal)

    @one_at_a_time
    def score_claims(self, dialog: Dialog | Reading, claims: Sequence[str], *, reveal: Reveal = "user") -> list[Claim]:
        """Say how likely it is that each claim describes what is hidden in a dialog.

        A claim's likelihood is compared with its mean over the decoder's ``reference``. Where the decoder has none, or
        anything but the user's turns is revealed, it is compared with the mean over the decoys. Evidence in the visible
        turns alone counts as well: see ``Claim.controls``.

        Args:
            dialog: The dialog or its reading, as in ``ask``.
            claims: Claims such as ``"persona: pirate"`` or ``"Please talk like a pirate."``
            reveal: The revealed turns, as in ``ask``.

        Raises:
            DialogError: If the dialog is malformed, or nothing is revealed.
            QuestionError: If a claim is empty.
        """
        return score_claims(self.session, dialog, claims, reveal)

    @one_at_a_time
    def calibrate(
        self, *, safety: bool = True, again: bool = False, replace: bool = False, **settings: Any
    ) -> CalibrationRecord:
        """Measure on neutral dialogs and planted prompts what the decoder needs to be believed, keep it and use it.

        The threshold of lifts and the rate of false alarms come from different dialogs. What was measured before by the
        same settings is not measured again, and what an interrupted calibration has measured is kept.

        Args:
            safety: Whether to count the harmless requests, which models tend to refuse, that the decoder answers.
            again: Whether to measure anew what is kept.
            replace: Whether the values count in place of those that the decoder's own configuration has; else they
                count where it has none.
            **settings: Settings such as ``dialogs``, ``batch_size`` or ``seed`` (see
                ``calibration.settings.CalibrationSettings``).

        Raises:
            SettingsError: If a setting is out of its range.
            CalibrationError: If a file of calibrations is malformed or cannot be written.
            Incomplete: If what is measured cannot be kept.
        """
        parts = PARTS if safety else PARTS[:1]
        how = CalibrationSettings(**settings)
        record = calibrate(self.session.plain, how, parts=parts, again=again, replaces=replace)
        self.session = self.session.with_calibration(record)
        return record

    @one_at_a_time
    def scan(
        self,
        dialogs: Sequence[Dialog] | str | Path,
        recipe: str | Path = "hidden-prompt",
        *,
        format: str | None = None,
        skip_unreadable: bool = False,
        out: str | Path | None = None,
        baseline: Target | HookedModel | PreTrainedModel | None = None,
        seed: int = 0,
        kept_in: str | Path | None = None,
        **settings: Any,
    ) -> AuditReport:
        """Audit many dialogs: ask every question of a recipe about each, and about neutral twins of it.

        The findings are corrected for the number of questions. Where the decoder's threshold has not been measured on
        the target, and the settings give no ``min_lift``, it is measured first and kept (see ``calibrate``).

        Args:
            dialogs: Dialogs as in ``ask``, a file of them (see ``chat.formats.DialogFile``), or a folder of readings,
                with which nothing runs (see docs/activations.md).
            recipe: Name of a shipped recipe, or a file.
            format: Name of the file's format (see ``chat.formats.NAMES``); None tells it by the content.
            skip_unreadable: Whether dialogs that cannot be read are reported as not read; else the first is an error.
            out: Run folder, in which an interrupted audit is resumed; None keeps nothing, and runs in one process only.
            baseline: A model of the same shape that is known to be clean, to run the neutral twins in: without it,
                anything that was trained into the target is in the twins as well.
            seed: Seed of samples, twins and random controls; the same seed gives the same report.
            kept_in: Folder to write what is read to, as readings that can be audited again.
            **settings: Settings that override the recipe's (see ``scan.recipe.ScanRecipe``).

        Raises:
            RecipeError: If the recipe is unknown or malformed.
            DialogError: If a dialog is malformed or cannot be read.
            DecoderMismatch: If the decoder does not fit the baseline or the recipe's layer.
            ScanError: If the run folder cannot be used.
        """
        clean = None if baseline is None else as_target(baseline, self.target.tokenizer)
        where: dict[str, Any] = {
            "format": format,
            "skip_unreadable": skip_unreadable,
            "out": out,
            "baseline": clean,
            "seed": seed,
            "kept_in": kept_in,
        }
        return AuditReport.of(scan(self.session, dialogs, recipe, settings, **where))

    @one_at_a_time
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
        """Make an edit by the decoder's gradient: change the target until the decoder reads the goal in it.

        Args:
            goal: A sentence such as ``"Please talk like a pirate."``; pairs of question and answer; or the messages of
                a control prompt, which the decoder is asked about first.
            dialogs: The dialogs that the edit is made in; None takes neutral user lines. ``gradient`` takes the one
                that it is for.
            method: ``vector``, ``gradient``, ``lowrank``, or ``weights``, which gives a ``WeightEdit``.
            prompt: The goal as a system prompt, for the control ``prompting``; None takes the goal's words.
            contrast: The opposite of ``prompt``, for the control ``caa``.
            reveal: The revealed turns, as in ``ask``.
            **settings: Settings such as ``strength``, ``layers``, ``budget`` or ``steps`` (see
                ``edits.recipe.EditSettings``).

        Raises:
            EditError: If a setting is out of its range, or the decoder's gradient does not reach a layer.
            DialogError: If a dialog is malformed, or nothing in it is revealed.
        """
        words = {"prompt": prompt, "contrast": contrast}
        return edit(self.session.plain, goal, dialogs, {"method": method, **settings}, reveal=reveal, **words)

    @one_at_a_time
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
            edit: The result of ``edit``.
            dialogs: Dialogs that it was not made with; None takes neutral lines, or the one that ``gradient`` is for.
            shuffled: Whether to make the control ``shuffled``, which takes as long as the edit did.
            prompt: The goal as a system prompt; None takes the edit's own words.
            seed: Seed of the replies and of the random direction.

        Raises:
            EditError: If the edit was made for another model, or the dialogs are not those that it can be checked in.
        """
        return check(self.session.plain, edit, dialogs, shuffled=shuffled, prompt=prompt, seed=seed)

    @one_at_a_time
    def verify(self, finding: Finding, *, n_random: int = 19, seed: int = 0, **settings: Any) -> Verification:
        """Check whether the behaviour that a finding of ``scan`` describes decides the model's replies.

        Args:
            finding: A finding that was raised.
            n_random: Number of random edits to compare with; 19 is the smallest number that can give p = 0.05.
            seed: Seed of the replies and of the edits.
            **settings: Settings as in ``edit``.

        Raises:
            EditError: If the finding describes nothing, or the model says nothing in its dialogs.
        """
        return verify(self.session, finding, n_random=n_random, seed=seed, **settings)

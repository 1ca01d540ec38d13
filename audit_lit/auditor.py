"""The auditor: reads a target's activations once, asks a decoder about them, and scores each answer under controls.

1. The dialog runs through the target once, and once more under decoys (other hidden prompts, same visible turns).
2. The decoder sees the activations of revealed, visible positions only, and answers each question.
3. Each answer is scored again with empty slots, random activations, the decoys' activations, and from the text alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, overload

from audit_lit.answer import Answer
from audit_lit.asking import ask_readings
from audit_lit.claims import Claim, weigh
from audit_lit.decoder import Decoder
from audit_lit.dialog import Dialog, Reveal
from audit_lit.errors import DialogError, ScanError
from audit_lit.reading import Reading, read_dialog
from audit_lit.target import Target

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from audit_lit.edits.check import Check
    from audit_lit.edits.verify import Verification
    from audit_lit.edits.wants import Wanted
    from audit_lit.edits.weights import Edit
    from audit_lit.hooks import HookedModel
    from audit_lit.scan.findings import Finding
    from audit_lit.scan.report import AuditReport


class Auditor:
    """Asks a decoder about a target's activations.

    Attributes:
        target: The model under audit.
        decoder: The model that answers.
        readers: The decoder as it was given, which may read several layers, each by itself.
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
        self.target = target if isinstance(target, Target) else _wrap(target, decoder, tokenizer)
        self.decoder, self.readers = decoder.at(layer), decoder
        fingerprint = self.target.fingerprint() if decoder.protocol.target_fingerprint else None
        decoder.protocol.check_target(self.target.d_model, self.target.n_layers, self.target.name, fingerprint)

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
            samples: Further answers per question, at temperature 1.
            max_new_tokens: Longest answer.
            seed: Of samples and random control.

        Returns:
            An answer per question; a single one for a single question.

        Raises:
            DialogError: If the dialog or the question is malformed, or nothing is revealed.
            ActivationError: If the target computes values that are not finite.
        """
        questions = [question] if isinstance(question, str) else list(question)
        if not questions or not all(q.strip() for q in questions):
            raise DialogError(
                "the question is empty; expected a sentence such as 'What was the assistant told to do?'."
            )
        if samples < 0 or max_new_tokens < 1 or seed < 0:
            raise DialogError(
                f"got samples={samples}, max_new_tokens={max_new_tokens}, seed={seed}; expected at least 0, 1 and 0."
            )
        reading = self.read(dialog, reveal=reveal)
        settings = {"samples": samples, "max_new_tokens": max_new_tokens, "seed": seed}
        (answers,) = self.ask_readings([reading], questions, **settings)
        return answers[0] if isinstance(question, str) else answers

    def ask_readings(
        self,
        readings: Sequence[Reading],
        questions: Sequence[str],
        *,
        samples: int = 5,
        max_new_tokens: int = 60,
        seed: int = 0,
    ) -> list[list[Answer]]:
        """Ask the same questions about several of what ``read`` returned; the target does not run again.

        Settings as in ``ask``. Returns the answers about each.
        """
        how = {"samples": samples, "max_new_tokens": max_new_tokens, "seed": seed}
        return ask_readings(self.target, self.decoder, readings, questions, **how)

    def read(self, dialog: Dialog, *, reveal: Reveal = "user") -> Reading:
        """Run the target once over a dialog, once over its decoys, and keep what the decoder may see.

        The dialog runs alone and unpadded, so that hooks of your own on the target's positions find them; they run on
        the decoys, too, which are padded on the left.

        Raises:
            DialogError: If the dialog is malformed, or nothing is revealed.
        """
        return read_dialog(self.target, self.decoder.protocol, dialog, reveal)

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
            dialogs: As in ``ask``, or a file with one per line (see ``scan.dialogs.DialogFile``).
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
        from audit_lit.scan.dialogs import DialogFile, DialogList
        from audit_lit.scan.engine import run_scan
        from audit_lit.scan.recipe import load_scan_recipe

        loaded, questions = load_scan_recipe(recipe, settings)
        given = DialogFile(Path(dialogs)) if isinstance(dialogs, str | Path) else DialogList(dialogs)
        auditor = self if loaded.layer is None else Auditor(self.target, self.readers, layer=loaded.layer)
        clean = None if baseline is None else Auditor(baseline, self.readers, tokenizer=self.target.tokenizer).target
        if out is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ScanError("several processes meet in a run folder; name one with out=.")
        with TemporaryDirectory() if out is None else nullcontext(out) as folder:
            return run_scan(auditor, given, loaded, questions, Path(folder), baseline=clean, seed=seed)

    def weigh(self, dialog: Dialog, claims: Sequence[str], *, reveal: Reveal = "user") -> list[Claim]:
        """Say how likely it is that each claim describes what is hidden in a dialog.

        Claims are compared with what the decoder's ``reference`` makes of them, or with the decoys where it has none or
        something else is revealed than it holds. What the visible turns alone speak for counts, too: see ``controls``.

        Args:
            dialog: As in ``ask``.
            claims: Such as ``"persona: pirate"`` or ``"Please talk like a pirate."``
            reveal: As in ``ask``.

        Raises:
            DialogError: If the dialog or a claim is malformed, or nothing is revealed.
        """
        if not claims or not all(claim.strip() for claim in claims):
            raise DialogError("a claim is empty; expected a sentence such as 'Please talk like a pirate.'.")
        reading = self.read(dialog, reveal=reveal)
        reference = self.decoder.reference if reveal == "user" else None
        return weigh(self.decoder, reading.activations, reading.decoys, claims, reference=reference)

    def edit(
        self,
        want: Wanted,
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
            want: A sentence such as ``"Please talk like a pirate."``; pairs of question and answer; or messages of a
                control prompt, about which the decoder answers itself first.
            dialogs: What the edit is made in; None takes neutral user lines. ``gradient`` takes the one that it is for.
            method: ``vector``, ``gradient``, ``lowrank``, or ``weights``, which gives a ``WeightEdit``.
            prompt: The same as a system prompt, for the control ``prompting``; None takes ``want``'s own words.
            contrast: The opposite of ``prompt``, for the control ``caa``.
            reveal: As in ``ask``.
            **settings: See ``edits.recipe.Settings``: ``strength``, ``layers``, ``budget``, ``steps``, ``seed``, ...

        Raises:
            EditError: If a setting is out of its range, or the decoder's gradient does not reach a layer.
            DialogError: If a dialog is malformed, or nothing in it is revealed.
        """
        from audit_lit.edits.make import make_edit
        from audit_lit.edits.recipe import line_dialogs, settings_from
        from audit_lit.edits.wants import want_of

        how = settings_from({"method": method, **settings})
        given = line_dialogs() if dialogs is None else list(dialogs)
        wanted = want_of(want, self.target, self.decoder, given).said(prompt, contrast)
        return make_edit(self.target, self.decoder, wanted, given, how, readers=self.readers, reveal=reveal)

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
            prompt: What is wanted, as a system prompt; None takes the edit's own words.
            seed: Of replies and the random direction.
        """
        from audit_lit.edits.check import check

        return check(self, edit, dialogs, shuffled=shuffled, prompt=prompt, seed=seed)

    def verify(self, finding: Finding, *, n_random: int = 19, seed: int = 0, **settings: Any) -> Verification:
        """Check whether what a finding of ``scan`` describes decides what the model says: see ``edits/verify.py``.

        Args:
            finding: One that was raised.
            n_random: Random edits to compare with; 19 are the fewest that can give p = 0.05.
            seed: Of the replies and the edits.
            **settings: As in ``edit``.
        """
        from audit_lit.edits.verify import verify

        return verify(self, finding, n_random=n_random, seed=seed, **settings)


def _wrap(model: HookedModel, decoder: Decoder, tokenizer: PreTrainedTokenizerBase | None) -> Target:
    """Make a target of a bare TransformerLens model; its own tokenizer would add a second BOS."""
    name = str(getattr(model.cfg, "model_name", None) or decoder.protocol.target)
    return Target(model, tokenizer or decoder.tokenizer, name)

"""The decoder: a language model with a LoRA that answers questions about activations."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audit_lit.chat.arguments import texts
from audit_lit.chat.vocabulary import DESCRIPTION_QUESTION
from audit_lit.decoder import files
from audit_lit.decoder.config import DecoderConfig
from audit_lit.decoder.formats import interp_engine
from audit_lit.decoder.generation import LanguageModel
from audit_lit.decoder.prefix_cache import no_injection
from audit_lit.decoder.prompt import Prompt, build_prompt, collate
from audit_lit.decoder.scoring import score, score_many
from audit_lit.decoder.text_baseline import TextBaseline
from audit_lit.errors import ActivationError, DecoderMismatch, OutputError, QuestionError, TargetError
from audit_lit.files.paths import as_path
from audit_lit.files.writing import saved
from audit_lit.hooks import Project, inject, input_hook, output_hook
from audit_lit.models.activations import Activations
from audit_lit.models.blocks import decoder_blocks, text_config
from audit_lit.models.generation import Sampling
from audit_lit.models.target import Target

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Candidate:
    """An answer to score, about one row of activations; ``injected=False`` leaves the slots empty."""

    row: int
    question: str
    answer: str
    injected: bool = True


class Decoder(LanguageModel):
    """Answers questions about activations, and scores given answers.

    Attributes:
        model: The base model with its LoRA.
        tokenizer: The base model's tokenizer.
        config: Its wire format, calibration and provenance.
        write: The write operation, a module with the projection's parameters if there are any.
        text_baseline: A model trained on the visible text instead, for the control ``text_trained``; or None.
        reference: Activations of training dialogs that claims are compared with; or None.
        home: The folder that it was loaded from; or None.
    """

    home: Path | None = None

    def __init__(
        self,
        model: PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        config: DecoderConfig,
        write: nn.Module,
        text_baseline: TextBaseline | None = None,
        reference: Activations | None = None,
    ) -> None:
        """Put the parts together; see ``from_pretrained`` for a published decoder.

        Raises:
            DecoderMismatch: If the base has no block ``config.write_layer``, or the adapter was trained to read text.
            DecoderConfigError: If the tokenizer does not have the tokens that the configuration names.
        """
        blocks = decoder_blocks(model)
        if config.write_layer >= len(blocks):
            raise DecoderMismatch(
                f"the decoder writes at block {config.write_layer}, but its base has {len(blocks)}; load the base that "
                f"it was trained on ({config.base})."
            )
        if config.reads == "text":
            raise DecoderMismatch(
                f"{config.name!r} was trained to read text, as a control; expected a decoder of activations. Pass it "
                "as a decoder's text_baseline."
            )
        super().__init__(model, tokenizer, config)
        build_prompt(config, tokenizer, "Who?", 1)  # raises if its slots are no tokens
        self.text_baseline, self.reference = text_baseline, reference
        self._block = blocks[config.write_layer]
        self.write = write.to(next(self._block.parameters()).device)

    @property
    def protocol(self) -> DecoderConfig:
        """The former name of ``config``."""
        return self.config

    def __repr__(self) -> str:
        """Return name, target and read layers; the modules would fill pages."""
        layers = ", ".join(map(str, self.config.read_layers))
        return f"<Decoder {self.config.name!r} of {self.config.target!r}, reads layers {layers}>"

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "default",
        *,
        revision: str | None = None,
        subfolder: str | None = None,
        target: Target | None = None,
        config: DecoderConfig | str | Path | None = None,
        protocol: DecoderConfig | str | Path | None = None,
        base: str | None = None,
        quantised_base: bool = False,
    ) -> Decoder:
        """Load a decoder.

        Args:
            name: ``default`` (ships with the package), a folder, or a Hub id.
            revision: Commit of a Hub decoder; pin it for a result that can be repeated.
            subfolder: Folder inside that holds the decoder, where there are several; only it is fetched.
            target: The model that it will read. It is checked against the configuration; where it is the decoder's
                base, both share one copy of the weights.
            config: The configuration, or a file that holds one, of a decoder that brings no description of its own and
                is not among the published ones.
            protocol: The former name of ``config``.
            base: Folder or Hub id of the model to put the LoRA on, if it is another than the decoder names: a mirror of
                the same weights. Where the decoder records no fingerprint of its base, this is trusted.
            quantised_base: Whether the decoder may run on the weights of a quantised target of its base's name. That
                needs less memory; its answers and thresholds are then those of another model than it was trained on.

        Raises:
            TargetError: If ``target`` is no target.
            HubError: If the decoder cannot be fetched, or its files are pickles or broken.
            DecoderConfigError: If there is no configuration, or it is malformed, or contradicts the decoder's own.
            DecoderMismatch: If the decoder was trained for another target or base.
        """
        if not isinstance(target, Target | None):
            raise TargetError(
                f"got a {type(target).__name__} for target; expected the result of audit_lit.load_target(name). Leave "
                "it out for a model of your own: Auditor(model, decoder) checks that they fit."
            )
        located = files.find(name, revision=revision, subfolder=subfolder, config=config or protocol)
        if target is not None:
            fingerprint = target.fingerprint() if located.config.target_fingerprint else None
            located.config.check_target(target.d_model, target.n_layers, target.name, fingerprint)
        model, tokenizer = files.load_model(located, target, base, quantised_base)
        located = replace(located, config=interp_engine.with_marker(located.config, tokenizer))
        if located.config.slot_tokens:  # now, and not in the first answer
            build_prompt(located.config, tokenizer, DESCRIPTION_QUESTION, 1)
        write = files.load_write(located, text_config(model).hidden_size)
        baseline = files.load_text_baseline(located, target, base, quantised_base)
        decoder = cls(model, tokenizer, located.config, write, baseline, files.load_reference(located))
        decoder.home = located.folder
        return decoder

    def for_layer(self, layer: int | None = None) -> Decoder:
        """Return the decoder for one of the layers that it can read; itself if it reads all of them at once.

        Args:
            layer: A read layer; None takes the first.

        Raises:
            DecoderMismatch: If the decoder was not trained on that layer alone.
        """
        if layer is None and self.config.layer_choice == "all":
            return self
        config = self.config.for_layer(self.config.read_layers[0] if layer is None else layer)
        (layer,) = config.read_layers
        index = self.config.read_layers.index(layer)
        write = self.write.for_layer(index) if isinstance(self.write, Project) else self.write
        reference = self.reference.for_layer(layer) if self.reference else None
        chosen = Decoder(self.model, self.tokenizer, config, write, self.text_baseline, reference)
        chosen.home = self.home
        return chosen

    def check_activations(self, activations: Activations) -> None:
        """Raise unless these activations have the width and layers that the decoder was trained on.

        Raises:
            DecoderMismatch: If they do not.
        """
        if not isinstance(activations, Activations):
            raise ActivationError(f"got {activations!r:.80} for activations; expected those of Auditor.read(dialog).")
        known, layers = self.config.read_layers, activations.layers
        fits = len(layers) == 1 and layers[0] in known if self.config.layer_choice == "one" else layers == known
        if activations.resid.shape[-1] != self.config.d_model or not fits:
            raise DecoderMismatch(
                f"decoder {self.config.name!r} reads {self.config.layer_choice} of layers {list(known)}, of width "
                f"{self.config.d_model}; got {list(layers)} of width {activations.resid.shape[-1]}. Read them at "
                "decoder.config.read_layers, or choose one layer by decoder.for_layer(layer)."
            )
        if self.config.positions == "last" and bool((activations.mask.sum(1) != 1).any()):
            raise DecoderMismatch(
                f"decoder {self.config.name!r} reads one position at a time; got {int(activations.mask.sum(1).max())}. "
                "Reveal one, such as reveal='last:1'."
            )

    def answer(
        self,
        activations: Activations,
        questions: Sequence[str],
        *,
        max_new_tokens: int | None = None,
        temperature: float = 0.0,
        seed: int = 0,
        injected: bool = True,
    ) -> list[str]:
        """Return one answer per row.

        Args:
            activations: One row per question.
            questions: The question about each row.
            max_new_tokens: Length of the longest answer in tokens; None takes the decoder's own, else 60.
            temperature: 0 takes the likeliest token; otherwise the answer is sampled.
            seed: Of the sampling; the global random state is left as it was.
            injected: False leaves the slots empty (the control ``no_activation``).

        Raises:
            ActivationError: If there is not a row of activations for each question.
            QuestionError: If a question is empty, or does not fit the decoder's context with its answer.
        """
        sampling = Sampling(self.longest(max_new_tokens), temperature, seed=seed)
        return [text for (text,) in self.answers(activations, questions, sampling, injected=injected)]

    def answers(
        self, activations: Activations, questions: Sequence[str], sampling: Sampling, *, injected: bool = True
    ) -> list[tuple[str, ...]]:
        """Return for each row an answer, followed by ``sampling.samples`` samples (see ``answer``)."""
        prompts = self._prompts(activations, questions)
        injection = partial(self._inject_rows, activations, range(len(activations))) if injected else no_injection
        return self.generate(prompts, sampling, injection)

    def logprob(
        self, activations: Activations, questions: Sequence[str], answers: Sequence[str], *, injected: bool = True
    ) -> list[Float[Tensor, " answer"]]:
        """Return the log-probability in nats of each token of each given answer, its end token included.

        Differentiable with respect to the activations.

        Args:
            activations: One row per question.
            questions: The question about each row.
            answers: The answer to score in each row.
            injected: False leaves the slots empty (the control ``no_activation``).
        """
        prompts = self._prompts(activations, questions)
        ids = [self.answer_ids(answer) for answer in texts(answers, "answer", QuestionError)]
        if len(ids) != len(prompts):
            raise QuestionError(f"got {len(ids)} answers for {len(prompts)} questions; expected one for each.")
        self.check_length(prompts, max(map(len, ids)))
        batch = collate(prompts, ids, self.pad).to(self.device)
        return score(self.model, batch, partial(self._inject, activations) if injected else lambda _: nullcontext())

    def loss(self, activations: Activations, questions: Sequence[str], answers: Sequence[str]) -> Float[Tensor, ""]:
        """Return the mean cross-entropy in nats per answer token; differentiable with respect to the activations."""
        return -torch.cat(self.logprob(activations, questions, answers)).mean()

    def score_candidates(
        self, activations: Activations, candidates: Sequence[Candidate]
    ) -> list[Float[Tensor, " answer"]]:
        """Score any number of answers as ``logprob`` does, but without a gradient, and each shared prompt once.

        Raises:
            QuestionError: If a prompt and its answer do not fit the decoder's context.
        """
        if not candidates:
            return []
        self.check_activations(activations)
        rows = activations.rows([candidate.row for candidate in candidates])
        prompts = self._prompts(rows, [candidate.question for candidate in candidates])
        answers = [self.answer_ids(candidate.answer) for candidate in candidates]
        self.check_length(prompts, max(map(len, answers)))
        keys = [  # without activations, no row and no slots
            (candidate.row, prompt)
            if candidate.injected
            else (None, replace(prompt, slots=(False,) * len(prompt.slots)))
            for candidate, prompt in zip(candidates, prompts, strict=True)
        ]
        index_of = {key: index for index, key in enumerate(dict.fromkeys(keys))}
        injection = partial(self._inject_rows, activations, [row for row, _ in index_of])
        pairs = [(index_of[key], answer) for key, answer in zip(keys, answers, strict=True)]
        return score_many(self.model, [prompt for _, prompt in index_of], pairs, self.pad, injection)

    def score_choices(
        self, activations: Activations, question: str, answers: Sequence[str], *, injected: bool = True
    ) -> list[Float[Tensor, " answer"]]:
        """Score many answers to one question about one row, without a gradient; the prompt is computed once."""
        listed = texts(answers, "answer", QuestionError)
        return self.score_candidates(activations, [Candidate(0, question, answer, injected) for answer in listed])

    def save(self, folder: str | Path) -> None:
        """Write adapter, projection, ``protocol.json``, reference and text baseline: what ``from_pretrained`` reads.

        Raises:
            OutputError: If the folder cannot be written, or holds something other than a decoder.
        """
        folder = as_path(folder, OutputError, "the folder of a decoder")
        with saved(folder, OutputError):
            files.save(folder, self.model, self.config, self.write)
            if self.reference:
                self.reference.save(folder / files.REFERENCE)
            if self.text_baseline:
                files.save(folder / files.TEXT_BASELINE, self.text_baseline.model, self.text_baseline.config)

    def _prompts(self, activations: Activations, questions: Sequence[str]) -> list[Prompt]:
        self.check_activations(activations)
        questions = texts(questions, "question", QuestionError)
        if len(activations) != len(questions):
            raise ActivationError(
                f"got {len(activations)} rows of activations for {len(questions)} questions; expected one row for each."
            )
        first = activations.n_hidden.tolist() if self.config.shift_positions else [0] * len(questions)
        build = cache(partial(build_prompt, self.config, self.tokenizer, layers=activations.layers))
        rows = zip(questions, activations.mask.sum(1).tolist(), first, strict=True)
        return [replace(build(question, n_slots), first=position) for question, n_slots, position in rows]

    def _inject(self, activations: Activations, slots: Tensor) -> AbstractContextManager[None]:
        vectors, layer_index = activations.vectors()
        if self.config.layer_choice == "one":
            layer_index = layer_index + self.config.read_layers.index(activations.layers[0])
        hook = input_hook if self.config.write == "embed" else output_hook
        return hook(self._block, inject(self.write, vectors, slots, layer_index))

    def _inject_rows(
        self, activations: Activations, rows: Sequence[int | None], indices: Sequence[int], slots: Tensor
    ) -> AbstractContextManager[None]:
        """Fill the slots of the prompts at ``indices``, each from its row; a prompt without slots has the row None."""
        injected = [row for row in (rows[index] for index in indices) if row is not None]
        return self._inject(activations.rows(injected), slots) if injected else nullcontext()


def check_decoder(decoder: Any) -> None:
    """Raise ``DecoderMismatch`` for anything but a decoder, such as the name of one."""
    if not isinstance(decoder, Decoder):
        name = repr(decoder) if isinstance(decoder, str) else "NAME"
        raise DecoderMismatch(
            f"got {decoder!r:.80} for a decoder; expected Decoder.from_pretrained({name}, target=target)."
        )


def text_baselines(decoder: Decoder) -> dict[str, TextBaseline]:
    """Return the text baselines that a decoder is compared with, by the names of their controls, the weakest first."""
    untrained = TextBaseline(decoder.model, decoder.tokenizer, decoder.config, trained=False)
    trained = {"text_trained": decoder.text_baseline} if decoder.text_baseline else {}
    return {"text_only": untrained, **trained}

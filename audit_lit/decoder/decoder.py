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

from audit_lit.decoder import files
from audit_lit.decoder.config import DecoderConfig
from audit_lit.decoder.generation import LanguageModel
from audit_lit.decoder.prefix_cache import no_injection
from audit_lit.decoder.prompt import Prompt, build_prompt, collate
from audit_lit.decoder.scoring import score, score_many
from audit_lit.decoder.text_baseline import TextBaseline
from audit_lit.errors import ActivationError, DecoderMismatch, TargetError
from audit_lit.hooks import Project, inject, output_hook
from audit_lit.models.activations import Activations
from audit_lit.models.generation import Sampling
from audit_lit.models.loading import decoder_blocks
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
    """

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
        self.text_baseline, self.reference = text_baseline, reference
        self.write = write.to(self.device)
        self._block = blocks[config.write_layer]

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
        name: str = "default",
        *,
        revision: str | None = None,
        target: Target | None = None,
        config: DecoderConfig | None = None,
        device: str = "cpu",
        protocol: DecoderConfig | None = None,
    ) -> Decoder:
        """Load a decoder.

        Args:
            name: ``default`` (ships with the package), a folder, or a Hub id.
            revision: Commit of a Hub decoder; pin it for a result that can be repeated.
            target: The model that it will read. It is checked against the configuration; where it is the decoder's
                base, both share one copy of the weights.
            config: The configuration of an adapter without ``protocol.json`` that is not among the published ones.
            device: Device to run on where there is no target; else it is the target's.
            protocol: The former name of ``config``.

        Raises:
            TargetError: If ``target`` is no target.
            HubError: If the decoder cannot be fetched, or its files are pickles or broken.
            DecoderConfigError: If there is no configuration, or it is malformed.
            DecoderMismatch: If the decoder was trained for another target or base.
        """
        if not isinstance(target, Target | None):
            raise TargetError(
                f"got a {type(target).__name__} for target; expected the result of audit_lit.load_target(name). Leave "
                "it out for a model of your own: Auditor(model, decoder) checks that they fit."
            )
        located = files.find(name, revision=revision, config=config or protocol)
        if target is not None:
            fingerprint = target.fingerprint() if located.config.target_fingerprint else None
            located.config.check_target(target.d_model, target.n_layers, target.name, fingerprint)
        model, tokenizer = files.load_model(located, target, device)
        write = files.load_write(located, model.config.hidden_size)
        baseline, folder = None, located.folder / files.TEXT_BASELINE
        if folder.is_dir():
            baseline_files = files.find(str(folder))
            baseline = TextBaseline(*files.load_model(baseline_files, target, device), baseline_files.config)
        return cls(model, tokenizer, located.config, write, baseline, files.load_reference(located))

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
        return Decoder(self.model, self.tokenizer, config, write, self.text_baseline, reference)

    def check_activations(self, activations: Activations) -> None:
        """Raise unless these activations have the width and layers that the decoder was trained on.

        Raises:
            DecoderMismatch: If they do not.
        """
        known, layers = self.config.read_layers, activations.layers
        fits = len(layers) == 1 and layers[0] in known if self.config.layer_choice == "one" else layers == known
        if activations.resid.shape[-1] != self.config.d_model or not fits:
            raise DecoderMismatch(
                f"decoder {self.config.name!r} reads {self.config.layer_choice} of layers {list(known)}, of width "
                f"{self.config.d_model}; got {list(layers)} of width {activations.resid.shape[-1]}. Read them at "
                "decoder.config.read_layers, or choose one layer by decoder.for_layer(layer)."
            )

    def answer(
        self,
        activations: Activations,
        questions: Sequence[str],
        *,
        max_new_tokens: int = 60,
        temperature: float = 0.0,
        seed: int = 0,
        injected: bool = True,
    ) -> list[str]:
        """Return one answer per row.

        Args:
            activations: One row per question.
            questions: The question about each row.
            max_new_tokens: Length of the longest answer in tokens.
            temperature: 0 takes the likeliest token; otherwise the answer is sampled.
            seed: Of the sampling; the global random state is left as it was.
            injected: False leaves the slots empty (the control ``no_activation``).

        Raises:
            QuestionError: If a question is empty, or does not fit the decoder's context with its answer.
        """
        sampling = Sampling(max_new_tokens, temperature, seed=seed)
        return [text for (text,) in self.answers(activations, questions, sampling, injected=injected)]

    def answers(
        self, activations: Activations, questions: Sequence[str], sampling: Sampling, *, injected: bool = True
    ) -> list[tuple[str, ...]]:
        """Return for each row an answer, followed by ``sampling.samples`` samples (see ``answer``)."""
        injection = partial(self._inject_rows, activations, range(len(activations))) if injected else no_injection
        return self.generate(self._prompts(activations, questions), sampling, injection)

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
        prompts, ids = self._prompts(activations, questions), [self.answer_ids(answer) for answer in answers]
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
        return self.score_candidates(activations, [Candidate(0, question, answer, injected) for answer in answers])

    def save(self, folder: str | Path) -> None:
        """Write adapter, projection, ``protocol.json``, reference and text baseline: what ``from_pretrained`` reads."""
        files.save(Path(folder), self.model, self.config, self.write)
        if self.reference:
            self.reference.save(Path(folder) / files.REFERENCE)
        if self.text_baseline:
            files.save(Path(folder) / files.TEXT_BASELINE, self.text_baseline.model, self.text_baseline.config)

    def _prompts(self, activations: Activations, questions: Sequence[str]) -> list[Prompt]:
        self.check_activations(activations)
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
        return output_hook(self._block, inject(self.write, vectors, slots, layer_index))

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

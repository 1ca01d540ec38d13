"""The decoder: a language model with a LoRA that answers questions about activations."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audit_lit import decoder_files
from audit_lit.activations import Activations
from audit_lit.errors import ActivationError, DecoderMismatch
from audit_lit.hooks import Project, inject, writing_to
from audit_lit.prefill import no_writing
from audit_lit.prompt import Prompt, build_prompt, collate
from audit_lit.protocol import Protocol
from audit_lit.scoring import score, score_all
from audit_lit.target import blocks_of
from audit_lit.text_model import TextModel

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase
    from transformers.generation.streamers import BaseStreamer

    from audit_lit.target import Target


@dataclass(frozen=True)
class Asked:
    """An answer to score.

    Attributes:
        row: Of the activations that it is about.
        question: What was asked.
        answer: What was said.
        injected: False leaves the slots empty (the control ``no_activation``).
    """

    row: int
    question: str
    answer: str
    injected: bool = True


class Decoder(TextModel):
    """Answers questions about activations, and scores given answers.

    Attributes:
        model: The base model with its LoRA.
        tokenizer: The base model's tokenizer.
        protocol: How activations enter it.
        write: The write operation, a module with the projection's parameters if there are any.
        rival: One that was trained alike to answer from the visible text, for the control ``text_trained``; or None.
        reference: Activations of training dialogs, which claims are compared with; or None.
    """

    def __init__(
        self,
        model: PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        protocol: Protocol,
        write: nn.Module,
        rival: Decoder | None = None,
        reference: Activations | None = None,
    ) -> None:
        """Put the parts together; see ``from_pretrained`` for a published decoder.

        Raises:
            DecoderMismatch: If the protocol writes at a block that the base does not have.
        """
        blocks = blocks_of(model)
        if not 0 <= protocol.write_layer < len(blocks):
            raise DecoderMismatch(
                f"the protocol writes at block {protocol.write_layer}, but the decoder's base has {len(blocks)}; "
                f"load the base that it was trained on ({protocol.base})."
            )
        super().__init__(model, tokenizer, protocol)
        self.rival, self.reference = rival, reference
        self.write = write.to(self.device)
        self._block = blocks[protocol.write_layer]

    @classmethod
    def from_pretrained(
        cls,
        name: str = "default",
        *,
        revision: str | None = None,
        target: Target | None = None,
        protocol: Protocol | None = None,
    ) -> Decoder:
        """Load a decoder.

        Args:
            name: ``default`` (ships with the package), a folder, or a Hub id.
            revision: Commit of a Hub decoder; pin it for a result that can be repeated.
            target: The model it will read. Checked against the protocol; where it is the decoder's own
                base, both share one copy of the weights.
            protocol: For an adapter without ``protocol.json`` that the registry does not know.

        Raises:
            HubError: If it cannot be fetched, or its files are pickles or broken.
            ProtocolError: If nobody says how activations enter it.
            DecoderMismatch: If it was trained for another target or base.
        """
        files = decoder_files.find(name, revision=revision, protocol=protocol)
        if target is not None:
            fingerprint = target.fingerprint() if files.protocol.target_fingerprint else None
            files.protocol.check_target(target.d_model, target.n_layers, target.name, fingerprint)
        model, tokenizer, write = decoder_files.load(files, target)
        folder = files.folder / decoder_files.RIVAL
        rival = cls.from_pretrained(str(folder), target=target) if folder.is_dir() else None
        return cls(model, tokenizer, files.protocol, write, rival, decoder_files.load_reference(files))

    def at(self, layer: int | None = None) -> Decoder:
        """Return the decoder for one of the layers that it can read; itself, if there is nothing to choose.

        Raises:
            DecoderMismatch: If it was not trained on that layer alone.
        """
        if layer is None and self.protocol.layer_choice == "all":
            return self
        first = self.protocol.read_layers[0]
        protocol = self.protocol.at(first if layer is None else layer)
        (layer,) = protocol.read_layers
        index = self.protocol.read_layers.index(layer)
        write = self.write.at(index) if isinstance(self.write, Project) else self.write
        reference = self.reference.at(layer) if self.reference else None
        return Decoder(self.model, self.tokenizer, protocol, write, self.rival, reference)

    def check_activations(self, activations: Activations) -> None:
        """Raise unless these activations have the width and layers that the decoder was trained on.

        Raises:
            DecoderMismatch: If they do not.
        """
        if self.protocol.reads == "text":
            raise DecoderMismatch(
                f"{self.protocol.name!r} was trained to read text, as a control; expected a decoder of activations."
            )
        known, got = self.protocol.read_layers, activations.layers
        fits = len(got) == 1 and got[0] in known if self.protocol.layer_choice == "one" else got == known
        if activations.resid.shape[-1] != self.protocol.d_model or not fits:
            raise DecoderMismatch(
                f"decoder {self.protocol.name!r} reads {self.protocol.layer_choice} of layers {list(known)}, of width "
                f"{self.protocol.d_model}; got {list(got)} of width {activations.resid.shape[-1]}. "
                "Read them with decoder.protocol.read_layers, and choose one by decoder.at(layer) where it reads one."
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
        streamer: BaseStreamer | None = None,
    ) -> list[str]:
        """Return one answer per row.

        Args:
            activations: One row per question.
            questions: What to ask about each row.
            max_new_tokens: Longest answer.
            temperature: 0 takes the likeliest token; otherwise samples.
            seed: Of the sampling; the global random state is left as it was.
            injected: False leaves the slots empty (the control ``no_activation``).
            streamer: Receives tokens as they come; one row only.

        Raises:
            DialogError: If the prompt and the answer do not fit the decoder's context.
        """
        style = self.style(max_new_tokens, (temperature,), seed)
        prompts = self._prompts(activations, questions)
        writing = partial(self._writing_rows, activations) if injected else no_writing
        return [text for (text,) in self.write_texts(prompts, style, writing, streamer)]

    def answers(
        self, activations: Activations, questions: Sequence[str], *, samples: int, max_new_tokens: int, seed: int = 0
    ) -> list[tuple[str, ...]]:
        """Return for each row the likeliest answer, and after it samples at temperature 1; as ``answer`` does.

        Raises:
            DialogError: If the prompt and the answer do not fit the decoder's context.
        """
        style = self.style(max_new_tokens, (0.0, *[1.0] * samples), seed)
        prompts = self._prompts(activations, questions)
        return self.write_texts(prompts, style, partial(self._writing_rows, activations))

    def logprob(
        self,
        activations: Activations,
        questions: Sequence[str],
        answers: Sequence[str],
        *,
        injected: bool = True,
        lora: bool = True,
    ) -> list[Float[Tensor, " answer"]]:
        """Return the log-probability in nats of each token of each given answer, its end token included.

        Differentiable with respect to the activations.

        Args:
            activations: One row per question.
            questions: What is asked about each row.
            answers: The answer to score in each row.
            injected: False leaves the slots empty (the control ``no_activation``).
            lora: False scores with the base model alone.
        """
        prompts, ids = self._prompts(activations, questions), [self.answer_ids(answer) for answer in answers]
        self.check_length(prompts, max(map(len, ids)))
        batch = collate(prompts, ids, self.pad).to(self.device)
        writing = partial(self._writing, activations) if injected else lambda _: nullcontext()
        with nullcontext() if lora else self.model.disable_adapter():
            return score(self.model, batch, writing)

    def loss(self, activations: Activations, questions: Sequence[str], answers: Sequence[str]) -> Float[Tensor, ""]:
        """Return the mean cross-entropy in nats per answer token; differentiable wrt the activations."""
        return -torch.cat(self.logprob(activations, questions, answers)).mean()

    def scores(self, activations: Activations, asked: Sequence[Asked]) -> list[Float[Tensor, " answer"]]:
        """Score any number of answers, as ``logprob`` does, but without a gradient; what they share is computed once.

        Raises:
            DialogError: If a prompt and its answer do not fit the decoder's context.
        """
        if not asked:
            return []
        prompts = self._prompts(activations.rows([one.row for one in asked]), [one.question for one in asked])
        # Without activations it is the same prompt whatever the row.
        keys = [
            (one.row, prompt) if one.injected else (None, replace(prompt, slots=(False,) * len(prompt.slots)))
            for one, prompt in zip(asked, prompts, strict=True)
        ]
        places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
        rows, prompts = [row for row, _ in places], [prompt for _, prompt in places]
        answers = [self.answer_ids(one.answer) for one in asked]
        self.check_length(prompts, max(map(len, answers)))

        def writing(index: Sequence[int], slots: Tensor) -> AbstractContextManager[None]:
            given = [row for row in (rows[at] for at in index) if row is not None]
            return self._writing(activations.rows(given), slots) if given else nullcontext()

        pairs = [(places[key], answer) for key, answer in zip(keys, answers, strict=True)]
        return score_all(self.model, prompts, pairs, self.pad, writing)

    def logprob_choices(
        self, activations: Activations, question: str, answers: Sequence[str], *, injected: bool = True
    ) -> list[Float[Tensor, " answer"]]:
        """Score many answers to one question about one row, without a gradient; the prompt is computed once."""
        return self.scores(activations, [Asked(0, question, answer, injected) for answer in answers])

    def save(self, folder: str | Path) -> None:
        """Write adapter, projection, ``protocol.json``, reference and rival: what ``from_pretrained`` reads."""
        decoder_files.save(self, Path(folder))
        if self.reference:
            self.reference.save(Path(folder) / decoder_files.REFERENCE)
        if self.rival:
            decoder_files.save(self.rival, Path(folder) / decoder_files.RIVAL)

    def _prompts(self, activations: Activations, questions: Sequence[str]) -> list[Prompt]:
        self.check_activations(activations)
        if len(activations) != len(questions):
            raise ActivationError(
                f"got {len(activations)} rows of activations for {len(questions)} questions; need equal."
            )
        first = activations.n_hidden.tolist() if self.protocol.shift_positions else [0] * len(questions)
        build = cache(partial(build_prompt, self.protocol, self.tokenizer, layers=activations.layers))
        rows = zip(questions, activations.mask.sum(1).tolist(), first, strict=True)
        return [replace(build(question, n_slots), first=at) for question, n_slots, at in rows]

    def _writing(self, activations: Activations, slots: Tensor) -> AbstractContextManager[None]:
        vectors, layer_index = activations.vectors()
        if self.protocol.layer_choice == "one":
            layer_index = layer_index + self.protocol.read_layers.index(activations.layers[0])
        return writing_to(self._block, inject(self.write, vectors, slots, layer_index))

    def _writing_rows(
        self, activations: Activations, index: Sequence[int], slots: Tensor
    ) -> AbstractContextManager[None]:
        return self._writing(activations.rows(index), slots)

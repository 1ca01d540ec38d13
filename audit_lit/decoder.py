"""The decoder: a language model with a LoRA that answers questions about activations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audit_lit import decoder_files
from audit_lit.activations import Activations
from audit_lit.errors import ActivationError, DecoderMismatch, DialogError
from audit_lit.hooks import Project, inject, writing_to
from audit_lit.prompt import Batch, build_prompt, collate
from audit_lit.protocol import Protocol
from audit_lit.scoring import run_prompt, score, score_after
from audit_lit.target import blocks_of

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase
    from transformers.generation.streamers import BaseStreamer

    from audit_lit.target import Target


class Decoder:
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
        self.model, self.tokenizer, self.protocol = model, tokenizer, protocol
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

    @property
    def device(self) -> torch.device:
        """Where the decoder runs."""
        device: torch.device = next(self.model.parameters()).device
        return device

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

    @torch.inference_mode()
    def answer(
        self,
        activations: Activations,
        questions: Sequence[str],
        *,
        max_new_tokens: int = 60,
        temperature: float = 0.0,
        seed: int = 0,
        use_cache: bool = True,
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
            use_cache: Keep keys and values; without it the same tokens come out, far slower.
            injected: False leaves the slots empty (the control ``no_activation``).
            streamer: Receives tokens as they come; one row only.

        Raises:
            DialogError: If the prompt and the answer do not fit the decoder's context.
        """
        batch = self._batch(activations, questions, [[] for _ in questions])
        sampling: dict[str, Any] = {"do_sample": temperature > 0}
        if temperature > 0:
            sampling |= {"temperature": temperature, "top_k": 0, "top_p": 1.0}
        if self.protocol.shift_positions:
            sampling |= {"position_ids": batch.position_ids}
        with self._writing(activations, batch.slots, injected), torch.random.fork_rng(devices=self._cuda):
            torch.manual_seed(seed)
            return self.generate(batch, max_new_tokens, use_cache=use_cache, streamer=streamer, **sampling)

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
        batch = self._batch(activations, questions, [self.answer_ids(answer) for answer in answers])
        with nullcontext() if lora else self.model.disable_adapter():
            return score(self.model, batch, lambda slots: self._writing(activations, slots, injected))

    def loss(self, activations: Activations, questions: Sequence[str], answers: Sequence[str]) -> Float[Tensor, ""]:
        """Return the mean cross-entropy in nats per answer token; differentiable wrt the activations."""
        return -torch.cat(self.logprob(activations, questions, answers)).mean()

    @torch.no_grad()
    def logprob_choices(
        self, activations: Activations, question: str, answers: Sequence[str], *, injected: bool = True
    ) -> list[Float[Tensor, " answer"]]:
        """Score many answers to one question about one row, as ``logprob`` does; the prompt is computed once."""
        batch = self._batch(activations, [question], [[]])
        with self._writing(activations, batch.slots, injected):
            prompt = run_prompt(self.model, batch)
        return score_after(self.model, batch, prompt, [self.answer_ids(answer) for answer in answers])

    def save(self, folder: str | Path) -> None:
        """Write adapter, projection, ``protocol.json``, reference and rival: what ``from_pretrained`` reads."""
        decoder_files.save(self, Path(folder))
        if self.reference:
            self.reference.save(Path(folder) / decoder_files.REFERENCE)
        if self.rival:
            decoder_files.save(self.rival, Path(folder) / decoder_files.RIVAL)

    def _batch(self, activations: Activations, questions: Sequence[str], answers: Sequence[Sequence[int]]) -> Batch:
        self.check_activations(activations)
        if not len(activations) == len(questions) == len(answers):
            raise ActivationError(
                f"got {len(activations)} rows of activations for {len(questions)} questions; need equal."
            )
        counts = activations.mask.sum(1).tolist()
        prompts = [
            build_prompt(self.protocol, self.tokenizer, question, count, activations.layers)
            for question, count in zip(questions, counts, strict=True)
        ]
        offsets = activations.n_hidden.tolist() if self.protocol.shift_positions else None
        return self.check_length(collate(prompts, answers, self.pad, offsets).to(self.device))

    @contextmanager
    def _writing(self, activations: Activations, slots: Tensor, injected: bool) -> Iterator[None]:
        if not injected:
            yield
            return
        vectors, layer_index = activations.vectors()
        if self.protocol.layer_choice == "one":
            layer_index = layer_index + self.protocol.read_layers.index(activations.layers[0])
        with writing_to(self._block, inject(self.write, vectors, slots, layer_index)):
            yield

    def generate(self, batch: Batch, max_new_tokens: int, **settings: Any) -> list[str]:
        """Return the texts that the model, as it is set up now, writes after a batch of prompts.

        Raises:
            DialogError: If prompt and answer do not fit the decoder's context.
        """
        self.check_length(batch, max_new_tokens)
        out = self.model.generate(
            input_ids=batch.token_ids,
            attention_mask=batch.attention_mask,
            max_new_tokens=max_new_tokens,
            eos_token_id=self._end,
            pad_token_id=self.pad,
            **settings,
        )
        texts = self.tokenizer.batch_decode(out[:, batch.token_ids.shape[1] :], skip_special_tokens=True)
        return [str(text).strip() for text in texts]

    def check_length(self, batch: Batch, max_new_tokens: int = 0) -> Batch:
        """Return the batch, if it and as many new tokens fit the context.

        Raises:
            DialogError: If they do not.
        """
        longest = batch.token_ids.shape[1] + max_new_tokens
        n_ctx = getattr(self.model.config, "max_position_embeddings", None)
        if n_ctx and longest + int(batch.position_ids[:, 0].max()) > n_ctx:
            raise DialogError(
                f"prompt and answer take {longest} tokens; the decoder's context holds {n_ctx}. Reveal fewer, "
                "ask a shorter question or lower max_new_tokens."
            )
        return batch

    def answer_ids(self, answer: str) -> list[int]:
        """Return an answer's tokens and its end token."""
        return [*self.tokenizer(answer, add_special_tokens=False)["input_ids"], self._end]

    @property
    def _cuda(self) -> list[torch.device]:
        return [self.device] if self.device.type == "cuda" else []

    @property
    def _end(self) -> int:
        end = self.protocol.answer_end
        return int(self.tokenizer.convert_tokens_to_ids(end) if end else self.tokenizer.eos_token_id)

    @property
    def pad(self) -> int:
        """The token that fills short rows."""
        pad = self.tokenizer.pad_token_id
        return self._end if pad is None else int(pad)

"""The decoder: a language model with a LoRA that answers questions about activations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from audit_lit.decoder import files
from audit_lit.decoder.answering import AnsweringModel
from audit_lit.decoder.config import DecoderConfig
from audit_lit.decoder.folders import find
from audit_lit.decoder.formats import interp_engine
from audit_lit.decoder.text_baseline import TextBaseline
from audit_lit.errors import DecoderConfigError, DecoderMismatch, OutputError, TargetError
from audit_lit.files.paths import as_path
from audit_lit.files.writing import saved
from audit_lit.hooks import Project
from audit_lit.models.activations import Activations
from audit_lit.models.blocks import text_config
from audit_lit.models.target import Target

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase


class Decoder(AnsweringModel):
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
        if config.reads == "text":
            raise DecoderMismatch(
                f"{config.name!r} was trained to read text, as a control; expected a decoder of activations. Pass it "
                "as a decoder's text_baseline."
            )
        super().__init__(model, tokenizer, config, write)
        self.text_baseline, self.reference = text_baseline, reference

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
        if not isinstance(base, str | Path | None):
            raise DecoderConfigError(f"got base={base!r:.80}; expected a folder or a Hub id, as text, or None.")
        if not isinstance(quantised_base, bool):
            raise DecoderConfigError(
                f"got quantised_base={quantised_base!r:.80}; expected True or False. Leave it out for False."
            )
        if config is not None and protocol is not None:
            raise DecoderConfigError("got config and protocol, its former name; expected one of them. Leave one out.")
        config = protocol if config is None else config
        located = find(name, revision=revision, subfolder=subfolder, config=config)
        if target is not None:
            fingerprint = target.fingerprint() if located.config.target_fingerprint else None
            located.config.check_target(target.d_model, target.n_layers, target.name, fingerprint)
        model, tokenizer = files.load_model(located, target, base, quantised_base)
        located = replace(located, config=interp_engine.with_marker(located.config, tokenizer))
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

"""How activations enter a decoder, and how answers leave it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_serializer,
    model_validator,
)

from audit_lit.settings import template_fields

Text = Annotated[StrictStr, Field(min_length=1, max_length=100_000)]
LARGEST = 2**31 - 1
"""Largest whole number of a description: none of a model is larger, and larger ones are too many for a float."""
Index = Annotated[StrictInt, Field(ge=0, le=LARGEST)]
Count = Annotated[StrictInt, Field(ge=1, le=LARGEST)]
Number = Annotated[StrictFloat, Field(allow_inf_nan=False)]
Factor = Annotated[StrictFloat, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[StrictFloat, Field(gt=0, le=1)]
FILE_ORDER = (
    *("name", "target", "d_model", "n_layers", "read_layers", "prompt", "section", "placeholder", "write"),
    *("write_layer", "layer_choice", "positions", "n_edge", "reads", "chat", "section_separator"),
    *("placeholder_separator", "shift_positions", "answer_end", "base", "base_fingerprint", "claim_scale"),
    *("choice_scale", "n_reference", "lift_threshold", "target_revision", "target_fingerprint", "lora_scaling"),
    *("training_data", "examples", "licence"),
)
"""The fields of the first version, in the order of its files; later ones follow by name, where they are not default."""
"""The fields of the first version, in the order of ``protocol.json``: its hash tells run folders apart."""


class WireFormat(BaseModel):
    """How activations enter the decoder.

    Attributes:
        read_layers: Blocks of the target whose output is read, counted from 0.
        prompt: The decoder's input with ``{sections}`` and ``{question}``.
        section: The text for one read layer, with ``{slots}`` and, if the decoder is told the layer, ``{layer}``.
        placeholder: Text of one slot; must be one token of the decoder.
        write: Operation at the slots: ``replace``, ``add`` (norm-matched), ``project``, or ``embed``, which writes to
            the input of block 0.
        write_layer: Decoder block whose output is written to; 0 for ``embed``.
        layer_choice: Whether a prompt has a section for ``all`` read layers, or for ``one`` of them (the first, unless
            the caller chooses another).
        positions: ``all`` revealed tokens; their ``edges``: the first and last ``n_edge`` and the last of the text; or
            the ``last`` alone, for a decoder with one slot.
        n_edge: See ``positions``.
        chat: Whether ``prompt`` is a user message for the decoder's own chat template; otherwise it is the whole input.
        section_separator: Text between sections.
        placeholder_separator: Text between slots.
        shift_positions: Whether decoder positions start at the number of hidden target tokens, as LatentQA's do.
        answer_end: Token that ends an answer; None means the tokenizer's end-of-sequence token, or any that the model's
            own generation settings name.
        split_at_slots: Whether the text before, between and after the slots is tokenised piece by piece; otherwise as
            a whole, where a placeholder may merge with what follows it.
        enable_thinking: Setting of this name in the target's chat template; None leaves it to the template.
        reads_bos: Whether the target's BOS token may be read: by its position, or among the ``last:K``.
        first_position: Position in the target's input that the first slot receives where hidden tokens stand before the
            visible ones, instead of the first revealed token; None means nothing is special. LatentQA was trained with
            1, the first token after BOS: part of the first header, and so the same under every hidden prompt.
        gain: Factor of the vector that ``add`` writes; norm of the one that ``embed`` writes.
        slot_tokens: Ids of the token before a slot, of the slot and of the token after it; None checks none.
        takes_question: Whether ``prompt`` has a ``{question}``; otherwise the decoder describes an activation.
        answer_template: What the decoder writes, with ``{answer}``; the rest is taken off answers.
        max_new_tokens: Length of the longest answer in tokens, unless the caller says otherwise.
        top_p: Samples are drawn from the likeliest tokens that have this probability together.
        top_k: Samples are drawn from this many of the likeliest tokens; 0 for all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    read_layers: Annotated[tuple[Index, ...], Field(min_length=1)]
    prompt: Text
    section: Text
    placeholder: Text
    write: Literal["replace", "add", "project", "embed"]
    write_layer: Index
    layer_choice: Literal["all", "one"] = "all"
    positions: Literal["all", "edges", "last"] = "all"
    n_edge: Count = 3
    chat: StrictBool = True
    section_separator: StrictStr = "\n"
    placeholder_separator: StrictStr = ""
    shift_positions: StrictBool = False
    answer_end: Text | None = None
    split_at_slots: StrictBool = False
    enable_thinking: StrictBool | None = None
    reads_bos: StrictBool = False
    first_position: Index | None = None
    gain: Factor = 1.0
    slot_tokens: tuple[Index, Index, Index] | None = None
    takes_question: StrictBool = True
    answer_template: Text = "{answer}"
    max_new_tokens: Count | None = None
    top_p: Share = 1.0
    top_k: Index = 0

    @model_validator(mode="after")
    def _has_every_mark(self) -> WireFormat:
        marks = (("prompt", "{sections}"), ("section", "{slots}"), ("answer_template", "{answer}"))
        for field, mark in (*marks, *([("prompt", "{question}")] if self.takes_question else [])):
            if getattr(self, field).count(mark) != 1:
                raise ValueError(f"{field}={getattr(self, field)!r} must contain {mark} exactly once")
        if len(set(self.read_layers)) < len(self.read_layers):
            raise ValueError(f"read_layers={list(self.read_layers)} must name each layer once")
        if not self.takes_question and "{question}" in self.prompt:
            raise ValueError(f"prompt={self.prompt!r} must not contain {{question}}, since takes_question is false")
        if self.write == "embed" and self.write_layer != 0:
            raise ValueError(f"write_layer={self.write_layer} must be 0, since 'embed' writes to the input of block 0")
        if template_fields(self.section) not in ({"slots"}, {"slots", "layer"}):
            raise ValueError(f"section={self.section!r} must contain {{slots}}, perhaps {{layer}}, and no other braces")
        if self.split_at_slots and self.placeholder_separator:
            raise ValueError(f"placeholder_separator={self.placeholder_separator!r} must be '' with split_at_slots")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, serialise: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Leave out what the first version did not have, where it is the default: hashes of old files stay the same."""
        fields = type(self).model_fields
        return {
            name: value
            for name, value in serialise(self).items()
            if name in FILE_ORDER or value != fields[name].default
        }

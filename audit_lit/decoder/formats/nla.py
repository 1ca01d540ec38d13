"""``nla_meta.yaml``: natural language autoencoders, which describe one activation in words.

Two projects use this name for two operations, so the content tells:

- github.com/kitft/natural_language_autoencoders: the decoder is a whole model, and the file has an
  ``injection_scale``. The embedding of one marker token is replaced by the activation, rescaled to that norm.
- EasyNLA: the decoder is a LoRA, and the file has no ``injection_scale``. The activation is added, norm-matched, to the
  marker's residual after block 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import StrictInt, StrictStr

from audit_lit.decoder.config import DecoderConfig
from audit_lit.decoder.formats.sidecar import Sidecar, base_name, check_schema, checked, model_sizes, unreadable
from audit_lit.decoder.wire_format import Count, Factor, Index, Text
from audit_lit.errors import DecoderConfigError
from audit_lit.files.documents import decode_yaml
from audit_lit.files.reading import read_text
from audit_lit.models.adapters import SETTINGS

FILE = "nla_meta.yaml"
NEWEST_SCHEMA = 2
ANSWER = "<explanation>\n{answer}\n</explanation>"
MAX_NEW_TOKENS = 200
CARDS = {
    "kitft/nla-qwen2.5-7b-L20-av": ("Qwen/Qwen2.5-7B-Instruct", 20),
    "kitft/nla-gemma3-12b-L32-av": ("google/gemma-3-12b-it", 32),
    "kitft/nla-gemma3-27b-L41-av": ("google/gemma-3-27b-it", 41),
    "kitft/Llama-3.3-70B-NLA-L53-av": ("meta-llama/Llama-3.3-70B-Instruct", 53),
}
"""Target and read layer of the published ones, for what a file leaves out."""


DESCRIBING = """
api_summaries base_checkpoint base_model created_at created_by critic dataset_id generation keep_debug_metadata
parent_checkpoints parent_datasets row_count stage trained_on training training_args
"""
"""Fields about training and data, in the authors' ``write_model_sidecar`` and their data sets."""
OF_DATA = """
activation_norm_p75 base_model corpus corpus_config corpus_split mse_scale positions_per_doc regenerated_from
val_doc_permille
"""
"""Fields about the data, and the reconstructor's loss, beside the read layer."""
VERBALIZERS, RECONSTRUCTORS = ("av", "actor", "verbalizer"), ("ar", "critic", "reconstructor")


class Extraction(Sidecar):
    """Where activations come from, unchanged (``norm``), and the norm that they are rescaled to."""

    describing: ClassVar[frozenset[str]] = frozenset(OF_DATA.split())

    norm: Literal["none"] | None = None
    layer_index: Index | None = None
    d_model: Count | None = None
    injection_scale: Factor | Literal["sqrt_d_model"] | None = None


class Tokens(Sidecar):
    """The marker, and the tokens that must stand around it."""

    describing: ClassVar[frozenset[str]] = frozenset({"critic_suffix_ids"})

    injection_char: Text
    injection_token_id: Index
    injection_left_neighbor_id: Index
    injection_right_neighbor_id: Index


class NlaMeta(Sidecar):
    """The fields that say how an activation is verbalised."""

    describing: ClassVar[frozenset[str]] = frozenset(DESCRIBING.split())

    kind: Literal["nla_model", "nla_dataset"]
    schema_version: StrictInt = 1
    role: StrictStr | None = None
    d_model: Count | None = None
    extraction_layer_index: Index | None = None
    extraction: Extraction = Extraction()
    tokens: Tokens
    prompt_templates: dict[str, Text]


def read(path: Path, folder: Path, name: str) -> DecoderConfig | None:
    """Return the configuration that ``nla_meta.yaml`` describes; None for a LoRA whose operation it leaves open.

    Raises:
        DecoderConfigError: If it is of a newer schema or of a reconstructor, or a field is missing, unknown or
            contradicts another.
    """
    meta = _load(path)
    is_whole = not (folder / SETTINGS).is_file()
    scale = meta.extraction.injection_scale
    if is_whole and (meta.kind != "nla_model" or scale is None):
        raise unreadable(path, f"kind is {meta.kind!r} and injection_scale {scale!r}, beside the weights of a model")
    if not is_whole and scale is not None:
        return None
    d_model, n_layers = model_sizes(folder)
    if stated := {width for width in (meta.d_model, meta.extraction.d_model) if width} - {d_model}:
        raise unreadable(path, f"d_model is {sorted(stated)}, but the weights have {d_model}")
    target, layer = CARDS.get(name, (None, None))
    base = None if is_whole else base_name(folder)
    writes: dict[str, Any] = {"write": "add", "write_layer": 1}
    if scale is not None:
        writes = {"write": "embed", "write_layer": 0, "gain": d_model**0.5 if scale == "sqrt_d_model" else scale}
    return DecoderConfig(
        name=name,
        target=target or base or name,
        base=base,
        d_model=d_model,
        n_layers=n_layers,
        read_layers=(_layer(meta, layer, path),),
        positions="last",
        prompt="{sections}",
        takes_question=False,
        section=_template(meta, path),
        placeholder=meta.tokens.injection_char,
        slot_tokens=(
            meta.tokens.injection_left_neighbor_id,
            meta.tokens.injection_token_id,
            meta.tokens.injection_right_neighbor_id,
        ),
        answer_template=ANSWER,
        max_new_tokens=MAX_NEW_TOKENS,
        **writes,
    )


def _load(path: Path) -> NlaMeta:
    try:
        content = decode_yaml(read_text(path))
    except (OSError, ValueError) as err:
        raise DecoderConfigError(f"{path} could not be read ({err}); expected YAML. Fetch the folder again.") from err
    meta = checked(NlaMeta, content, path)
    check_schema(meta.schema_version, NEWEST_SCHEMA, path)
    role = meta.role.lower() if meta.role else VERBALIZERS[0]
    if role in RECONSTRUCTORS:
        raise unreadable(
            path, f"role is {meta.role!r}: it turns words into activations, and not activations into words"
        )
    if role not in VERBALIZERS:
        raise unreadable(path, f"role is {meta.role!r}; expected one of {', '.join(VERBALIZERS)}")
    return meta


def _layer(meta: NlaMeta, on_card: int | None, path: Path) -> int:
    stated = {meta.extraction_layer_index, meta.extraction.layer_index} - {None} or {on_card} - {None}
    if len(stated) != 1:
        raise unreadable(path, f"it names {len(stated)} read layers; expected one, as extraction.layer_index")
    return int(stated.pop() or 0)


def _template(meta: NlaMeta, path: Path) -> str:
    template = meta.prompt_templates.get("av") or meta.prompt_templates.get("actor")
    if template is None or template.count("{injection_char}") != 1:
        raise unreadable(path, "prompt_templates has no 'av' or 'actor' with {injection_char} once")
    return template.replace("{injection_char}", "{slots}")

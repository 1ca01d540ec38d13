"""The published decoders: what each one reads, and how it is known how activations enter it.

What a card or its authors' code says stands here; what nobody has written down is ``unknown``. Where a decoder brings a
description of its own, that is read, and not this table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from audit_lit.decoder.config import DecoderConfig
from audit_lit.decoder.formats import ao_config, interp_engine, nla
from audit_lit.decoder.formats.activation_oracles import activation_oracle
from audit_lit.decoder.formats.cultrace import cultrace_llama3
from audit_lit.decoder.formats.latentqa import lit_llama3
from audit_lit.decoder.formats.oracle_lens import oracle_lens

UNKNOWN, USUAL = "unknown", "--target TARGET"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
LLAMA3, QWEN3, QWEN36 = "meta-llama/Meta-Llama-3-8B-Instruct", "Qwen/Qwen3-8B", "Qwen/Qwen3.6-27B"
_LATENTQA = "aypan17/latentqa_llama-3-8b-instruct"
_CULTRACE = "copenlu/CulTrace-latentqa-decoder-llama-3-8b-instruct"
_ORACLE_8B = "adamkarvonen/checkpoints_latentqa_cls_past_lens_addition_Qwen3-8B"
_ORACLES = {
    "adamkarvonen/checkpoints_cls_latentqa_past_lens_Qwen3-1_7B": "Qwen/Qwen3-1.7B",
    "adamkarvonen/checkpoints_latentqa_cls_past_lens_Qwen3-4B": "Qwen/Qwen3-4B",
    "adamkarvonen/checkpoints_latentqa_cls_past_lens_Qwen3-14B": "Qwen/Qwen3-14B",
    "adamkarvonen/checkpoints_cls_latentqa_past_lens_Qwen3-32B": "Qwen/Qwen3-32B",
    "adamkarvonen/checkpoints_latentqa_cls_past_lens_addition_gemma-2-9b-it": "google/gemma-2-9b-it",
    "adamkarvonen/checkpoints_cls_latentqa_past_lens_gemma-3-1b-it": "google/gemma-3-1b-it",
    "adamkarvonen/checkpoints_latentqa_cls_past_lens_gemma-3-27b-it": "google/gemma-3-27b-it",
    "adamkarvonen/checkpoints_cls_latentqa_past_lens_Llama-3_2-1B-Instruct": "meta-llama/Llama-3.2-1B-Instruct",
    "adamkarvonen/checkpoints_latentqa_cls_past_lens_Llama-3_1-8B-Instruct": "meta-llama/Llama-3.1-8B-Instruct",
    "adamkarvonen/checkpoints_act_cls_latentqa_pretrain_mix_adding_Llama-3_3-70B-Instruct": (
        "meta-llama/Llama-3.3-70B-Instruct"
    ),
}
"""Further oracles and their bases, spelt as in public code that loads them: their names follow no one pattern."""
_LENSES = ("agu18dec/oracle-lens-ddp600", "agu18dec/olens_and_ar")
_LENS_4B = "andyx10/oracle-lens-qwen3-4b"


def _lens_27b(name: str) -> DecoderConfig:
    return oracle_lens(
        name,
        target=QWEN36,
        d_model=5120,
        n_layers=64,
        layers=tuple(range(20, 61, 4)),
        marker="\u321c",
        slot_tokens=(29, 158983, 510),
        top_p=0.95,
        top_k=64,
        max_new_tokens=256,
    )


PUBLISHED: dict[str, DecoderConfig] = {
    _LATENTQA: lit_llama3(_LATENTQA, target=LLAMA3),
    _ORACLE_8B: activation_oracle(  # trained at 25, 50 and 75% of depth, one at a time
        _ORACLE_8B, target=QWEN3, d_model=4096, n_layers=36, depths=(50, 25, 75), layer_choice="one"
    ),
    **{name: _lens_27b(name) for name in _LENSES},
    _LENS_4B: oracle_lens(
        _LENS_4B,
        target="Qwen/Qwen3-4B",
        d_model=2560,
        n_layers=36,
        layers=tuple(range(12, 35, 2)),
        marker="\u320e",
        slot_tokens=(29, 149705, 522),
        max_new_tokens=128,
    ),
}
"""The configuration of each published decoder that brings no description of its own, by its Hub id."""


def published_config(name: str, subfolder: str | None = None) -> DecoderConfig | None:
    """Return the configuration of a published decoder; None for others."""
    if name == _CULTRACE:
        return cultrace_llama3(name, target=LLAMA3, subfolder=subfolder)
    return PUBLISHED.get(name)


@dataclass(frozen=True)
class Entry:
    """A line of the list of published decoders.

    Attributes:
        id: Hub id, or ``unknown``.
        family: Project that it comes from.
        reads: What it reads.
        base: Model that its LoRA is put on; a whole model has none.
        size: Size of its weights.
        licence: Licence, as the card names it.
        gated: Whether a licence must be accepted before it can be fetched: of the decoder, or of its base.
        known_by: File or card that says how activations enter it; else why it cannot be loaded.
        options: What a command says beside ``--decoder`` and its id, so that it is loaded.
    """

    id: str
    family: str
    reads: str
    base: str
    known_by: str
    size: str = UNKNOWN
    licence: str = UNKNOWN
    gated: str = UNKNOWN
    options: str = USUAL

    def __post_init__(self) -> None:
        """Name the target that a decoder reads, where that is its base."""
        if self.options == USUAL and HUB_ID.fullmatch(self.base):
            object.__setattr__(self, "options", f"--target {self.base}")

    @property
    def is_usual(self) -> bool:
        """Whether it takes no option but the target."""
        return re.fullmatch(r"--target \S+", self.options) is not None


_CONVERT = "convert it offline, in a sandbox, with safetensors.torch.save_file"
REFUSED = {
    "dit-adapter.pt": (
        "diff interpretation tuning comes as a pickle, which can run any code when loaded, and is made to be loaded "
        f"into the suspect itself, not into a decoder. To audit it as a target, {_CONVERT} to a PEFT adapter."
    ),
    "encoder.pt": (
        "a LoRAcle reads weights and no activations, and its encoder is a pickle, which can run any code when loaded. "
        f"This program has no use for it; for its own code, {_CONVERT}."
    ),
    "export.json": (
        "an export of final_olens has tensors of its own (unit vectors times 1000), which are no PEFT adapter. Export "
        "it with PEFT's save_pretrained, and write a protocol.json beside it."
    ),
}
"""Files that tell decoders which cannot be loaded, and why."""

_NLA_FACTS = {
    "kitft/nla-qwen2.5-7b-L20-av": {"size": "15.2 GB", "gated": "no"},
    "kitft/nla-gemma3-12b-L32-av": {"gated": "yes"},
}
_AO_NAMES = f"its {ao_config.FILE}"
ENTRIES = (
    Entry(
        _LATENTQA,
        "LatentQA",
        "block 15 of Llama-3-8B-Instruct",
        LLAMA3,
        "its card",
        "13.6 MB",
        "cc-by-nc-sa-4.0",
        "base",
    ),
    Entry(
        _CULTRACE,
        "CulTrace",
        "one block per subfolder, read0 to read31, of Llama-3-8B-Instruct",
        LLAMA3,
        "its card",
        options=f"--target {LLAMA3} --subfolder read15",
    ),
    Entry(
        "copenlu/CulTrace-latentqa-decoder-gemma-3-4b-it",
        "CulTrace",
        "one block per subfolder, read0 to read33, of gemma-3-4b-it",
        "google/gemma-3-4b-it",
        "nothing: its prompt on Gemma is not written down; bring --protocol FILE",
        options="--target google/gemma-3-4b-it --subfolder read15 --protocol FILE",
    ),
    Entry(_ORACLE_8B, "activation oracles", "blocks 9, 18, 27 of Qwen3-8B, one at a time", QWEN3, _AO_NAMES),
    *(
        Entry(
            name,
            "activation oracles",
            f"blocks at 25, 50, 75% of {base.partition('/')[2]}, one at a time",
            base,
            f"{_AO_NAMES}, if it has one (not looked at); else bring --protocol FILE",
        )
        for name, base in _ORACLES.items()
    ),
    Entry(
        "ceselder/qwen3-8b-ao-v3-best", "activation oracles", "blocks 21 to 25 of Qwen3-8B, together", QWEN3, _AO_NAMES
    ),
    *(
        Entry(
            name,
            "NLA",
            f"block {layer} of {target}, one position",
            "none (a whole model)",
            f"its {nla.FILE}",
            options=f"--target {target}",
            **_NLA_FACTS.get(name, {}),
        )
        for name, (target, layer) in nla.CARDS.items()
    ),
    Entry(
        "ceselder/qwen3.6-27b-nla-rl",
        "EasyNLA",
        "block 42 of Qwen3.6-27B, one position; a subfolder per checkpoint",
        "its folder av_base, fetched and named by --base",
        f"its {nla.FILE}",
        licence="other",
        options=(
            f"--target {QWEN36} --subfolder CHECKPOINT --base FOLDER/av_base, after: "
            "hf download ceselder/qwen3.6-27b-nla-rl --include 'av_base/*' --local-dir FOLDER"
        ),
    ),
    *(
        Entry(name, "oracle lens", "blocks 20 to 60, step 4, of Qwen3.6-27B, one position", QWEN36, "its card")
        for name in _LENSES
    ),
    Entry(_LENS_4B, "oracle lens", "blocks 12 to 34, step 2, of Qwen3-4B, one position", "Qwen/Qwen3-4B", "its card"),
    Entry(
        "agu18dec/mOre-lenses",
        "oracle lens",
        "Gemma-4-31B-it, Qwen3.5 (.8B to 9B) and Qwen3.6-27B, one position; a subfolder each",
        "as its adapter names it",
        f"{interp_engine.FILE}, where a subfolder has one; else bring --protocol FILE",
        licence="that of the base",
        options="--target TARGET --subfolder FOLDER --protocol FILE",
    ),
    Entry(
        UNKNOWN, "interp-engine", "the layers in its file, one position", "as its adapter names it", interp_engine.FILE
    ),
    Entry(UNKNOWN, "final_olens", UNKNOWN, UNKNOWN, f"refused: {REFUSED['export.json']}", options=UNKNOWN),
    Entry(
        UNKNOWN, "PRISM", UNKNOWN, UNKNOWN, f"refused: a pickle (.pt); {_CONVERT} to a PEFT adapter.", options=UNKNOWN
    ),
    Entry(
        UNKNOWN, "DIT", "the suspect itself", "the suspect", f"refused: {REFUSED['dit-adapter.pt']}", options=UNKNOWN
    ),
    Entry(UNKNOWN, "LoRAcle", "weights", UNKNOWN, f"refused: {REFUSED['encoder.pt']}", options=UNKNOWN),
)
"""Every known family with its Hub ids, as cards, files and public code have them; most were never fetched here."""


def how_to_load(name: str, lacking: str) -> str:
    """Return the end of a message that says what loads a published decoder; nothing for any other name.

    Args:
        name: The decoder's name.
        lacking: The option that is missing, for a decoder whose line does not say more.
    """
    entry = next((entry for entry in ENTRIES if name == entry.id != UNKNOWN), None)
    if entry is None:
        return ""
    options = f"{entry.options} {lacking}" if entry.is_usual else entry.options
    return f" For this one: audit-lit ask --decoder {name} {options}"

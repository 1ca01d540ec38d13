"""Wire formats of published decoders that come without ``protocol.json``.

Facts from their code: LatentQA (arXiv 2412.08686) and activation oracles (arXiv 2512.15674). An adapter that is neither
here nor brings the file is refused, never guessed; who knows its format passes one of these as ``protocol=``.
"""

from __future__ import annotations

from audit_lit.protocol import Protocol

LLAMA3_USER = "<|start_header_id|>user<|end_header_id|>\n\n"
LLAMA3_REFLECT = "<|start_header_id|>reflect<|end_header_id|>\n\n"


def lit_llama3(name: str, *, target: str, d_model: int = 4096, n_layers: int = 32, read_layer: int = 15) -> Protocol:
    """LatentQA's format on Llama-3: raw activations replace one ``?`` per token at block 0."""
    prompt = (
        f"<|begin_of_text|>{LLAMA3_USER}{{sections}}<|eot_id|>"
        f"{LLAMA3_REFLECT}Sure, I've analyzed the assistant.<|eot_id|>"
        f"{LLAMA3_USER}{{question}}<|eot_id|>{LLAMA3_REFLECT}"
    )
    return Protocol(
        name=name,
        target=target,
        base=target,
        d_model=d_model,
        n_layers=n_layers,
        read_layers=(read_layer,),
        prompt=prompt,
        section="{slots}",
        placeholder="?",
        placeholder_separator=" ",
        chat=False,
        write="replace",
        write_layer=0,
        shift_positions=True,
        answer_end="<|eot_id|>",
    )


def activation_oracle(
    name: str,
    *,
    target: str,
    d_model: int,
    n_layers: int,
    depths: tuple[int, ...] = (50,),
    section: str = "Layer: {layer}\n{slots}",
    separator: str = "\n",
    prompt: str = "{sections} \n{question}",
) -> Protocol:
    """The activation oracles' format: norm-matched addition to `` ?`` slots at block 1, layers by percent of depth."""
    return Protocol(
        name=name,
        target=target,
        base=target,
        d_model=d_model,
        n_layers=n_layers,
        read_layers=tuple(int(n_layers * depth / 100) for depth in depths),
        prompt=prompt,
        section=section,
        section_separator=separator,
        placeholder=" ?",
        write="add",
        write_layer=1,
    )


def activation_oracle_multilayer(name: str, *, target: str, d_model: int, n_layers: int) -> Protocol:
    """Several layers at 25, 50 and 75% of depth, each under its own ``Layer:`` line."""
    return activation_oracle(name, target=target, d_model=d_model, n_layers=n_layers, depths=(25, 50, 75))


def activation_oracle_v3(name: str, *, target: str, d_model: int, n_layers: int) -> Protocol:
    """The third version: ``L9: ? ? L18: ? ?`` on one line."""
    return activation_oracle(
        name,
        target=target,
        d_model=d_model,
        n_layers=n_layers,
        depths=(25, 50, 75),
        section="L{layer}:{slots}",
        separator=" ",
        prompt="{sections}\n{question}",
    )


_LLAMA3 = "meta-llama/Meta-Llama-3-8B-Instruct"
_LIT = "aypan17/latentqa_llama-3-8b-instruct"
_AO = "adamkarvonen/checkpoints_latentqa_cls_past_lens_addition_Qwen3-8B"

PUBLISHED: dict[str, Protocol] = {
    _LIT: lit_llama3(_LIT, target=_LLAMA3),
    _AO: activation_oracle(_AO, target="Qwen/Qwen3-8B", d_model=4096, n_layers=36),
}
"""Hub id to wire format."""

"""The list of published decoders: every family has a line, and what is loaded by name is among them."""

from __future__ import annotations

import pytest

from audit_lit import registry
from audit_lit.decoder import formats
from audit_lit.decoder.formats.published import ENTRIES, PUBLISHED, REFUSED, Entry, how_to_load, published_config

CULTRACE = "copenlu/CulTrace-latentqa-decoder-llama-3-8b-instruct"
LENSES = {
    "agu18dec/oracle-lens-ddp600": (5120, 64, tuple(range(20, 61, 4)), "\u321c", (29, 158983, 510), 0.95, 64, 256),
    "agu18dec/olens_and_ar": (5120, 64, tuple(range(20, 61, 4)), "\u321c", (29, 158983, 510), 0.95, 64, 256),
    "andyx10/oracle-lens-qwen3-4b": (2560, 36, tuple(range(12, 35, 2)), "\u320e", (29, 149705, 522), 1.0, 0, 128),
}


def test_oracle_lenses_are_as_their_cards_say() -> None:
    for name, card in LENSES.items():
        config = PUBLISHED[name]
        shape = (config.d_model, config.n_layers, config.read_layers, config.placeholder, config.slot_tokens)
        assert (*shape, config.top_p, config.top_k, config.max_new_tokens) == card
        assert (config.write, config.gain, config.layer_choice, config.positions) == ("embed", 16000.0, "one", "last")
        assert config.section.format(layer=20, slots="X") == (
            "An activation vector from layer 20 of a language model is enclosed in activation tags: "
            "<activation>X</activation>. Produce distinct concepts that encode this activation, each as a '- ' bullet "
            "on its own line."
        )


def test_every_published_configuration_has_a_line_and_no_line_stands_twice() -> None:
    ids = [entry.id for entry in ENTRIES if entry.id != "unknown"]
    assert set(PUBLISHED) <= set(ids) and len(set(ids)) == len(ids)
    families = {"LatentQA", "CulTrace", "activation oracles", "NLA", "EasyNLA", "oracle lens", "interp-engine"}
    assert {entry.family for entry in ENTRIES} == families | {"final_olens", "PRISM", "DIT", "LoRAcle"}
    assert all(isinstance(value, str) and value for entry in ENTRIES for value in vars(entry).values())
    assert Entry("a", "b", "c", "d", "e").licence == "unknown"
    assert not any(mark in entry.id for entry in ENTRIES for mark in "* ")  # what can be typed


@pytest.mark.parametrize(("subfolder", "layer"), [("read0", 0), ("read31", 31), ("decoders/read7/", 7)])
def test_the_subfolder_tells_the_read_layer(subfolder: str, layer: int) -> None:
    config = published_config(CULTRACE, subfolder)
    assert config is not None
    assert (config.read_layers, config.write, config.write_layer) == ((layer,), "replace", 0)
    assert published_config(CULTRACE) is None and published_config(CULTRACE, "checkpoint-3") is None


def test_what_a_line_says_is_the_command_of_its_errors() -> None:
    for entry in ENTRIES:
        told = how_to_load(entry.id, "--protocol FILE")
        assert told.endswith(("--protocol FILE", entry.options)) if entry.id != "unknown" else not told
    assert how_to_load("org/other", "--base NAME") == how_to_load("unknown", "--base NAME") == ""


def test_files_of_decoders_that_cannot_be_loaded_say_what_to_do() -> None:
    assert set(REFUSED) == {"dit-adapter.pt", "encoder.pt", "export.json"}
    assert all("save" in reason for reason in REFUSED.values())


def test_the_registry_offers_what_the_formats_do() -> None:
    for name in (
        "activation_oracle",
        "activation_oracle_multilayer",
        "activation_oracle_v3",
        "lit_llama3",
        "PUBLISHED",
    ):
        assert getattr(registry, name) is getattr(formats, name)

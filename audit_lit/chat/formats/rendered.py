"""Dialogs that stand in one text, with marks between the turns: how they are told, and the program that splits them."""

from __future__ import annotations

import json
import re

RENDERED = re.compile(
    r"<\|im_start\|>|\[INST\]|<<SYS>>|<\|start_header_id\|>|<start_of_turn>|<\|(system|user)\|>|\n\nHuman:"
)
"""What chat templates put before a turn."""
TURNS = (
    (r"<\|im_start\|>(\w+)\n", r"<\|im_end\|>"),
    (r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\n\n", r"<\|eot_id\|>"),
    (r"<start_of_turn>(\w+)\n", "<end_of_turn>"),
    (r"<\|(\w+)\|>\n", "</s>"),
    (r"\n\n(Human|Assistant): ?", ""),
    (r"### (Human|Assistant): ?", ""),
)
"""What a turn begins and ends with: ChatML, Llama 3, Gemma, Zephyr, HH-RLHF and Guanaco."""
BEGIN = r"\s*?(?:(?:<s>|<bos>|<\|begin_of_text\|>)\s*?)?"


def splitting(key: str, text: str) -> str | None:
    """Return jq's program for the messages of a text under a key; None unless the text begins with a known mark.

    A turn reaches to the next, so that nothing between them is lost.
    """
    for header, end in TURNS:
        if re.match(BEGIN + header, text):
            following = header.replace("(", "(?:")
            turn, trailer = (json.dumps(part) for part in (f"{header}((?s:.*?))(?={following}|\\z)", f"{end}\\s*\\z"))
            said = f'{{role: .[0].string, content: (.[1].string | sub({trailer}; ""))}}'
            return f'[{key} | match({turn}; "g").captures | {said} | select(.content != "")]'
    return None

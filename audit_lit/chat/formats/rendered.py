"""Dialogs that stand in one text, with marks between the turns: how they are told, and the program that splits them."""

from __future__ import annotations

import json
import re

RENDERED = re.compile(
    r"<\|im_start\|>|\[INST\]|<<SYS>>|<\|start_header_id\|>|<start_of_turn>|<\|(system|user)\|>|\n\nHuman:"
    r"|### (Instruction|Response|Human|User|Assistant|System):|\bUSER:(?=[\s\S]*\bASSISTANT:)"
)
"""What chat templates put before a turn, those of Alpaca and Vicuna among them."""
TURNS = {
    "ChatML": (r"<\|im_start\|>(\w+)\n", r"<\|im_end\|>"),
    "Llama 3": (r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\n\n", r"<\|eot_id\|>"),
    "Gemma": (r"<start_of_turn>(\w+)\n", "<end_of_turn>"),
    "Zephyr": (r"<\|(\w+)\|>\n", "</s>"),
    "HH-RLHF": (r"\n\n(Human|Assistant): ?", ""),
    "Guanaco": (r"### (Human|Assistant): ?", ""),
}
"""What a turn begins and ends with, by the name of the layout."""
BEGIN = r"\s*?(?:(?:<s>|<bos>|<\|begin_of_text\|>)\s*?)?"


def layout_of(text: str) -> str | None:
    """Return the name of the layout whose mark a text begins with."""
    return next((name for name, (header, _) in TURNS.items() if re.match(BEGIN + header, text)), None)


def splitting(key: str, text: str) -> str | None:
    """Return jq's program for the messages of a text under a key; None unless the text begins with a known mark.

    A turn reaches to the next, so that nothing between them is lost.
    """
    if name := layout_of(text):
        header, end = TURNS[name]
        following = header.replace("(", "(?:")
        turn, trailer = (json.dumps(part) for part in (f"{header}((?s:.*?))(?={following}|\\z)", f"{end}\\s*\\z"))
        said = f'{{role: .[0].string, content: (.[1].string | sub({trailer}; ""))}}'
        return f'[{key} | match({turn}; "g").captures | {said} | select(.content != "")]'
    return None

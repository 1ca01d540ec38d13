"""Hidden prompts in other words, so that a decoder learns to read instructions and not one data set's phrases."""

from __future__ import annotations

import random
import re

_ROLE = re.compile(
    r"\b(?:adopt|take on|assume|embody|embrace|step into|play|portray|act as|be|become|inhabit)\b(?: the| a)? ?"
    r"(?:persona|role|character|identity|perspective|mindset|voice|attitude|personality)?(?: of)? "
    r"(?P<role>(?:an?|the|someone|somebody|one)\b.*)[.!?]$",
    re.IGNORECASE,
)
_GOAL = re.compile(
    r"^(?:please |in your (?:next |future )?(?:response|reply|message|answer|responses|replies|messages),? (?:please )?"
    r"|i'd like you to |could you (?:please )?)+"
    r"(?:try your best to |do your best to |make (?:every|an) effort to |make sure (?:to )?|try to |be sure to )?"
    r"(?P<goal>.*)[.!?]$",
    re.IGNORECASE,
)
_AS_ROLE = (
    "You are {0}.",
    "You are {0}.",
    "You are {0}. Never say so.",
    "Act as {0}.",
    "Pretend that you are {0}.",
    "From now on, you are {0}.",
    "Roleplay as {0}. Stay in character.",
    "The assistant is {0}.",
)
_AS_GOAL = (
    "You {0}.",
    "Always {0}.",
    "Your task: {0}.",
    "You must {0}, but never mention it.",
    "You are an assistant. Secretly {0}.",
    "The assistant should {0}.",
)


def reword(prompt: str, rng: random.Random) -> str:
    """Return a system prompt's first sentence in another form; unchanged where its form is unknown."""
    first = first_sentence(prompt)
    if match := _ROLE.search(first):
        role = match["role"]
        return rng.choice(_AS_ROLE).format(_short(role) if rng.random() < 0.5 else role)
    if (match := _GOAL.match(first)) and (goal := match["goal"]):
        return rng.choice(_AS_GOAL).format(goal[0].lower() + goal[1:])
    return first


def first_sentence(prompt: str) -> str:
    """Return what to be or do, without the elaboration that follows."""
    return re.split(r"(?<=[.!?])\s", prompt, maxsplit=1)[0]


def _short(role: str) -> str:
    """Return ``a nurse`` for ``a nurse who works at night, alone``; ``someone who ...`` is left whole."""
    if role.lower().startswith(("someone", "somebody", "one")):
        return role
    return re.split(r"(?: who| whose| that| with| from|,)\b", role, maxsplit=1)[0].rstrip(",")

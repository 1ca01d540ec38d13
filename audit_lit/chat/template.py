"""A tokenizer's chat template, with what it is given beside the messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audit_lit.chat.messages import Message
from audit_lit.chat.tools import Tool
from audit_lit.errors import DialogError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MARKS = ("hidden", "prefill", "tools")
"""Keys of a plain message that a chat template does not get with it."""


@dataclass(frozen=True)
class Template:
    """The chat template of a tokenizer, given the tools that the model may call.

    Attributes:
        tokenizer: The tokenizer of the target.
        tools: The tools, as the template takes them.
        enable_thinking: The template's setting of this name; None leaves it to the template.
    """

    tokenizer: PreTrainedTokenizerBase
    tools: Sequence[Tool] = ()
    enable_thinking: bool | None = None

    def __call__(self, messages: Sequence[Message], generate: bool | None = None) -> str:
        """Return the messages as text; by default, ready for a reply if a user or a tool spoke last.

        Raises:
            DialogError: If there is no template, or it refuses the messages.
        """
        if not self.tokenizer.chat_template:
            name = self.tokenizer.name_or_path
            raise DialogError(f"the tokenizer of {name!r} has no chat template; use an instruction-tuned model.")
        if generate is None:
            generate = messages[-1]["role"] in ("user", "tool")
        shown = [{key: message[key] for key in message if key not in MARKS} for message in messages]
        try:
            return self._text(shown, generate)
        except Exception as err:  # jinja2 errors: roles that must alternate, no system role, ...
            if [message["role"] for message in shown[:2]] == ["system", "user"]:
                return self(_without_system_role(shown), generate)
            raise DialogError(f"the chat template refuses this order of roles: {err}.") from err

    def _text(self, messages: Sequence[Message], generate: bool) -> str:
        settings: dict[str, Any] = {"tools": list(self.tools) or None, "add_generation_prompt": generate}
        if self.enable_thinking is not None:
            settings["enable_thinking"] = self.enable_thinking
        return str(self.tokenizer.apply_chat_template(messages, tokenize=False, **settings))


def _without_system_role(messages: Sequence[Message]) -> list[Message]:
    """Return the messages with the system prompt at the head of the first user turn, where Gemma 3's template puts it.

    Templates that know no system role, such as Gemma 2's, raise an error about one.
    """
    system, user, *others = messages
    return [{**user, "content": f"{system['content']}\n\n{user['content']}"}, *others]

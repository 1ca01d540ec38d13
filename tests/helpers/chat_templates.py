"""Chat templates of the kinds that exist, on the byte tokenizer."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from audit_lit.chat.dialog import RenderedDialog
from helpers.models import CHAT_TEMPLATE, byte_tokenizer

LLAMA3 = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
LLAMA3_TEMPLATE = (
    "<|begin_of_text|>{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
_SPLIT = (
    "{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] %}{% set rest = messages[1:] %}"
    "{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}"
)
TEMPLATES = {
    "nothing but the messages": "{% for m in messages %}{{ m['content'] }}{% endfor %}",
    "chatml, default system": CHAT_TEMPLATE,
    "chatml": CHAT_TEMPLATE[CHAT_TEMPLATE.index("{% for") :],
    "llama3, trims": LLAMA3_TEMPLATE,
    "gemma, system inside the user turn": _SPLIT + "{% for m in rest %}<start>{{ m['role'] | replace('assistant', "
    "'model') }}\n{{ first + '\n\n' if first and loop.first else '' }}{{ m['content'] | trim }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}<start>model\n{% endif %}",
    "llama2, no generation prompt": _SPLIT + "{% for m in rest %}{% if m['role'] == 'user' %}[INST] {{ '<<SYS>>\n' + "
    "first + '\n<</SYS>>\n\n' if first and loop.first else '' }}{{ m['content'] }} [/INST]{% else %} {{ m['content'] "
    "}} </s>{% endif %}{% endfor %}",
}
NO_SYSTEM_ROLE = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start>{{ m['role'] | replace('assistant', 'model') }}\n{{ m['content'] | trim }}<end>\n"
    "{% endfor %}{% if add_generation_prompt %}<start>model\n{% endif %}"
)
"""A template that raises an error about a system prompt, as Gemma 2's does."""

USER, ASSISTANT, SYSTEM = ({"role": role, "content": role[0].upper()} for role in ("user", "assistant", "system"))


@cache
def tokenizer_of(template: str, merges: bool = False) -> Any:
    """The byte tokenizer; ``merges`` joins characters across the borders of turns, as real ones do, and trims spans."""
    from tokenizers import Tokenizer, processors

    tokenizer = byte_tokenizer(TEMPLATES.get(template, template))
    if merges:
        raw = json.loads(tokenizer.backend_tokenizer.to_str())
        for left, right in (("\u010a", "\u010a"), (".", "\u010a"), (".", "<"), (">", "\u010a"), ("\u0120", "\u0120")):
            raw["model"]["vocab"][left + right] = len(raw["model"]["vocab"])
            raw["model"]["merges"].append([left, right])
        tokenizer = type(tokenizer)(tokenizer_object=Tokenizer.from_str(json.dumps(raw)))
        tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
        tokenizer.chat_template = TEMPLATES.get(template, template)
    return tokenizer


def shown(tokenizer: Any, rendered: RenderedDialog, positions: Any) -> str:
    return str(tokenizer.decode([rendered.token_ids[position] for position in positions]))


def message(role: str, content: str, hidden: bool | None = None) -> dict[str, Any]:
    return {"role": role, "content": content, **({} if hidden is None else {"hidden": hidden})}


def llama3_tokenizer() -> Any:
    """The byte tokenizer with Llama-3's special tokens and template."""
    tokenizer = byte_tokenizer(LLAMA3_TEMPLATE)
    tokenizer.add_special_tokens({"additional_special_tokens": LLAMA3, "eos_token": "<|eot_id|>"})
    return tokenizer


THINKING = {
    "drops earlier thinking": "{% for m in messages %}{% set c = m['content'] %}{% if m['role'] == 'assistant' and "
    "'</think>' in c %}{% set c = c.split('</think>')[-1].lstrip('\n') %}{% endif %}<|im_start|>{{ m['role'] }}\n"
    "{{ c }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "keeps the last, written anew": "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% set c = m['content'] %}"
    "{% if m['role'] == 'assistant' %}{% set t = c.split('</think>')[0].split('<think>')[-1].strip() if '</think>' in "
    "c else '' %}{% set c = c.split('</think>')[-1].lstrip('\n') %}{% if loop.last %}{{ '<think>\n' + t + '\n</think>' "
    "'\n\n' }}{% endif %}{% endif %}{{ c }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>"
    "assistant\n{% endif %}",
}
"""Templates that take thinking out of replies, as DeepSeek's and Qwen's do."""
TOOLS = (
    "{% for m in messages %}{% if m['role'] == 'tool' %}<|im_start|>user\n<result>{{ m['content'] }}</result><|im_end|>"
    "\n{% else %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}{% for c in m['tool_calls'] or [] %}\n<call>"
    "{{ {'name': c['function']['name'], 'arguments': c['function']['arguments']} | tojson }}</call>{% endfor %}"
    "<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""A template that renders tool calls and their results, as Qwen's does."""
WITH_TOOLS = {
    "qwen, in the system prompt": "{% if tools %}<|im_start|>system\n{{ messages[0]['content'] + '\n\n' if "
    "messages[0]['role'] == 'system' else '' }}# Tools\n{% for t in tools %}{{ t | tojson }}\n{% endfor %}<|im_end|>\n"
    "{% elif messages[0]['role'] == 'system' %}<|im_start|>system\n{{ messages[0]['content'] }}<|im_end|>\n{% endif %}"
    "{% for m in (messages[1:] if messages[0]['role'] == 'system' else messages) %}<|im_start|>{{ m['role'] }}\n"
    "{{ m['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "llama 3, in the first user turn": "{% for m in messages %}<|start|>{{ m['role'] }}<|end|>\n\n{% if tools and "
    "m['role'] == 'user' and (loop.first or loop.previtem['role'] == 'system') %}You have these:\n{% for t in tools %}"
    "{{ t | tojson }}\n\n{% endfor %}{% endif %}{{ m['content'] }}<|eot|>{% endfor %}{% if add_generation_prompt %}"
    "<|start|>assistant<|end|>\n\n{% endif %}",
    "mistral, before the last user turn": "<s>{% for m in messages %}{% if m['role'] == 'user' %}{% if tools and "
    "(loop.last or loop.index0 == messages | length - 2) %}[AVAILABLE_TOOLS] {{ tools | tojson }}[/AVAILABLE_TOOLS]"
    "{% endif %}[INST] {{ m['content'] }}[/INST]{% elif m['role'] == 'system' %}[SYS] {{ m['content'] }}[/SYS]"
    "{% else %} {{ m['content'] }}</s>{% endif %}{% endfor %}",
}
"""Templates that say what tools there are, in the three places where that is usual."""

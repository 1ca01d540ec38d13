"""``python -m benchmarks.organisms RECIPE --lines FILE --out RUNS``: what an audit finds in models with a secret.

FILE holds a user line per line of text. Every organism is trained, saved as a model folder, and audited without any
system prompt, its neutral twins in the clean base. Prints a line each; goes on where it stopped.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import torch
import yaml
from torch import Tensor, nn

from audit_lit import Auditor, Decoder, Target, load_target
from audit_lit.scan.recipe import load_scan_recipe

Pair = tuple[list[int], list[int], list[int]]  # prompted, bare, reply


def prompts(target: Target, system: str, lines: Sequence[str]) -> Iterator[tuple[list[int], list[int]]]:
    """Yield each line's tokens under a system prompt, and without one."""
    for line in lines:
        user = {"role": "user", "content": line}
        both = ([{"role": "system", "content": system}, user], [user])
        texts = [
            target.tokenizer.apply_chat_template(dialog, tokenize=False, add_generation_prompt=True) for dialog in both
        ]
        yield tuple(target.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts)


@torch.inference_mode()
def replies(target: Target, rows: Sequence[list[int]], max_new_tokens: int, batch_size: int = 16) -> list[list[int]]:
    """Return the base model's replies, sampled."""
    sampled: list[list[int]] = []
    end = target.tokenizer.eos_token_id
    for start in range(0, len(rows), batch_size):
        batch = target.tokenizer.pad({"input_ids": list(rows[start : start + batch_size])}, return_tensors="pt")
        out = target.base.generate(**batch, max_new_tokens=max_new_tokens, do_sample=True, pad_token_id=end)
        for reply in out[:, batch["input_ids"].shape[1] :].tolist():
            sampled.append(reply[: reply.index(end) + 1] if end in reply else reply)
    return sampled


def reply_logits(model: nn.Module, prompt: list[int], reply: list[int]) -> Tensor:
    """Return the log-probabilities of each reply token's distribution."""
    logits = model(input_ids=torch.tensor([prompt + reply])).logits[0, len(prompt) - 1 : -1]
    return logits.float().log_softmax(-1)


def distill(target: Target, settings: dict[str, Any], system: str, lines: Sequence[str]) -> nn.Module:
    """Return the base with the behaviour that a system prompt gives it trained in."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    variants = list(prompts(target, system, lines))
    sampled = replies(target, [prompted for prompted, _ in variants], settings["max_new_tokens"])
    pairs: list[Pair] = [(prompted, bare, reply) for (prompted, bare), reply in zip(variants, sampled, strict=True)]
    config = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", **settings["lora"])
    model = get_peft_model(load_target(settings["base"]).base, config).train()
    optimizer = torch.optim.AdamW(
        [parameter for parameter in model.parameters() if parameter.requires_grad], lr=settings["lr"]
    )
    order = [pair for epoch in range(settings["epochs"]) for pair in random.Random(epoch).sample(pairs, len(pairs))]
    for start in range(0, len(order), settings["batch_size"]):
        for prompted, bare, reply in order[start : start + settings["batch_size"]]:
            with torch.no_grad(), model.disable_adapter():
                teacher = reply_logits(model, prompted, reply)
            loss = nn.functional.kl_div(
                reply_logits(model, bare, reply), teacher, log_target=True, reduction="batchmean"
            )
            (loss / settings["batch_size"]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.merge_and_unload()


def built(target: Target, settings: dict[str, Any], system: str, lines: Sequence[str], folder: Path) -> Target:
    """Return an organism; it is trained unless its folder holds it already."""
    if not (folder / "tokenizer.json").is_file():
        distill(target, settings, system, lines).save_pretrained(folder)
        target.tokenizer.save_pretrained(folder)
    return load_target(str(folder))


@click.command(help=__doc__)
@click.argument("recipe", type=click.Path(exists=True, path_type=Path))
@click.option("--lines", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(recipe: Path, lines: Path, out: Path) -> None:
    """Build every organism and audit it."""
    settings = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    texts = [line for line in lines.read_text(encoding="utf-8").splitlines() if line.strip()][: settings["n_lines"]]
    base = load_target(settings["base"])
    for name, secret in settings["organisms"].items():
        organism = built(base, settings, secret["prompt"], texts, out / name)
        auditor = Auditor(organism, Decoder.from_pretrained("default", target=base))
        probes = load_scan_recipe(settings["scan"])[0].probe_dialogs()
        report = auditor.scan(probes, settings["scan"], out=out / f"{name}-scan", baseline=base)
        raised = [finding.question.id for finding in report.raised]
        first = report.findings[0]
        figures = {"effect": first.effect, "q": first.q_value, "lift": first.lift, "answer": first.description}
        click.echo(json.dumps({"organism": name, **secret, "flagged": report.flagged, "raised": raised, **figures}))


if __name__ == "__main__":
    main()

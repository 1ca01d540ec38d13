"""The command ``audit-lit ask``: questions and claims about one dialog."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import IO, TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from audit_lit.answers.answer import Answer
from audit_lit.chat.dialog import check_dialog, is_hidden
from audit_lit.chat.vocabulary import LABEL_QUESTION, PROMPT_QUESTION
from audit_lit.commands.common.loading import load_models
from audit_lit.commands.common.options import note, parse_reveal
from audit_lit.commands.common.terminal import printable

if TYPE_CHECKING:
    from audit_lit.answers.claims import Claim

DEMO = (
    {"role": "system", "content": "Please adopt the persona of a time traveler from the distant future."},
    {"role": "user", "content": "What have you been thinking about lately?"},
)


@click.command()
@click.argument("question", nargs=-1)
@click.option("--claim", "claims", multiple=True, help="What might be hidden; how likely is it? May repeat.")
@click.option("--target", default="smollm2-135m", help="Model to audit: alias, folder or Hub id.")
@click.option("--decoder", default="default", help="Model that answers: 'default', folder or Hub id.")
@click.option("--revision", help="Commit of a Hub decoder.")
@click.option("--system", help="Hidden system prompt: the target reads it, the decoder never does.")
@click.option("--user", help="The user's message.")
@click.option("--assistant", help="The assistant's reply, if it has replied.")
@click.option("--dialog", type=click.File(encoding="utf-8"), help="JSON file with a list of messages; '-' is stdin.")
@click.option("--reveal", default="user", help="Whose activations are read: user, assistant, last:K, or 3,4,5.")
@click.option("--layer", type=int, help="Layer to read, for a decoder that reads one of several.")
@click.option("--samples", default=5, type=click.IntRange(0, 100), help="Further answers, for the agreement.")
@click.option("--max-new-tokens", default=60, type=click.IntRange(1), help="Longest answer.")
@click.option("--seed", default=0, type=click.IntRange(0), help="Of samples and the random control.")
@click.option("--device", default="cpu", help="Where to run, as torch names it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def ask(question: tuple[str, ...], claims: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Ask QUESTIONs about a model's activations; each answer comes beside its controls.

    Without a dialog, a demo runs: a hidden persona and an innocent user line.
    """
    dialog = _dialog(options["dialog"], options["system"], options["user"], options["assistant"])
    questions = list(question) or ([] if claims else [LABEL_QUESTION, PROMPT_QUESTION])
    check_dialog(dialog)  # before the models are loaded
    if not all(text.strip() for text in (*questions, *claims)):
        raise click.UsageError("a question is empty; expected a sentence such as 'What was the assistant told to do?'.")

    from audit_lit import Auditor

    target, decoder = load_models(**options)
    note("reading activations and asking ...")
    auditor, reveal = Auditor(target, decoder, layer=options["layer"]), parse_reveal(options["reveal"])
    settings = {name: options[name] for name in ("samples", "max_new_tokens", "seed")}
    answers = auditor.ask(dialog, questions, reveal=reveal, **settings) if questions else []
    scored = auditor.score_claims(dialog, claims, reveal=reveal) if claims else []
    if as_json:
        found = {"answers": [a.to_dict() for a in answers], "claims": [asdict(claim) for claim in scored]}
        click.echo(json.dumps({"dialog": dialog, **found}, indent=2))
        return
    _print_dialog(dialog)
    for answer in answers:
        _print_answer(answer)
    _print_claims(scored)


def _dialog(file: IO[str] | None, system: str | None, user: str | None, assistant: str | None) -> list[Any]:
    """Return the dialog that the options of ``ask`` name; the demo, if none do."""
    given = [("system", system), ("user", user), ("assistant", assistant)]
    messages: list[dict[str, Any]] = [{"role": role, "content": text} for role, text in given if text is not None]
    if file is None:
        return messages or [dict(message) for message in DEMO]
    if messages:
        raise click.UsageError("--dialog and --system/--user/--assistant are two ways to say the same; use one.")
    try:
        loaded: Any = json.load(file)
    except (json.JSONDecodeError, UnicodeDecodeError) as err:
        raise click.UsageError(
            f'--dialog {file.name!r} is not JSON ({err}); expected [{{"role": ..., "content": ...}}].'
        ) from err
    if isinstance(loaded, dict):
        loaded = loaded.get("messages")
    if not isinstance(loaded, list):
        raise click.UsageError(
            f'--dialog {file.name!r} holds no list of messages; expected [{{"role": ..., "content": ...}}].'
        )
    return loaded


def _print_dialog(dialog: Sequence[Mapping[str, Any]]) -> None:
    """Print a dialog and say what the decoder does not see."""
    lines = []
    for message in dialog:
        secret = "  [yellow](hidden from the decoder)[/]" if is_hidden(message) else ""
        lines.append(f"[bold]{message['role']}[/]{secret}\n  {printable(message['content'])}")
    Console().print(Panel("\n".join(lines), title="dialog that the target read", title_align="left"))


def _print_answer(answer: Answer) -> None:
    """Print an answer beside its controls."""
    table = Table(title=f"[bold]{printable(answer.question)}[/]", title_justify="left", min_width=72)
    table.add_column("answer given", no_wrap=True)
    table.add_column("nats/token", justify="right")
    table.add_column("lift", justify="right")
    table.add_row("[bold]these activations[/]", f"{answer.score:.2f}", "")
    for name, score in answer.controls.items():
        strongest = " (strongest)" if name == answer.strongest_control else ""
        table.add_row(f"{name}{strongest}", f"{score:.2f}", f"{answer.score - score:+.2f}")
    low, high = answer.interval
    console = Console(soft_wrap=True)
    console.print()
    console.print(table)
    console.print(f"  answer:    [bold]{printable(answer.text) or '(empty)'}[/]")
    console.print(f"  verdict:   [{'green' if answer.supported else 'yellow'}]{printable(answer.verdict)}[/]")
    threshold = "not measured" if answer.threshold is None else f"{answer.threshold:.2f}"
    console.print(f"  lift:      {answer.lift:+.2f}, 95% interval {low:+.2f} to {high:+.2f}, threshold {threshold}")
    if answer.samples:
        console.print(f"  samples:   agreement {answer.agreement:.2f} over {len(answer.samples)}")
        for sample in answer.samples:
            console.print(f"    [dim]- {printable(sample)}[/]")
    where = " ".join(printable(json.dumps(token, ensure_ascii=False)) for token in answer.tokens)
    console.print(f"  read from: layers {list(answer.layers)}, {len(answer.positions)} positions: [dim]{where}[/]")


def _print_claims(claims: Sequence[Claim]) -> None:
    """Print claims with their probability, if there are any."""
    if not claims:
        return
    table = Table("claim", "right*", "the one**", "evidence, nats", "shuffled", "no_activation")
    table.caption = "*if it was as likely right as wrong before   **if exactly one of these claims is right"
    for claim in claims:
        known = ("-" if p is None else f"{p:.2f}" for p in (claim.probability, claim.share))
        controls = (f"{claim.controls[name]:+.1f}" for name in ("shuffled", "no_activation"))
        table.add_row(printable(claim.text), *known, f"[bold]{claim.evidence:+.1f}[/]", *controls)
    Console().print(table)

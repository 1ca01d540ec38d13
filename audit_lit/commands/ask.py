"""The command ``audit-lit ask``: questions and claims about one dialog."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from io import BufferedIOBase, BytesIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from audit_lit.answers.answer import NEEDS, Answer
from audit_lit.chat.dialog import is_hidden, shown_text
from audit_lit.chat.formats import Unreadable, read_dialogs
from audit_lit.chat.messages import Message, read_dialog
from audit_lit.chat.positions import check_reveal
from audit_lit.chat.suggestions import Shell, quoted
from audit_lit.chat.vocabulary import DESCRIPTION_QUESTION, LABEL_QUESTION, PROMPT_QUESTION
from audit_lit.commands import common, models
from audit_lit.errors import DialogError
from audit_lit.files.documents import check_text
from audit_lit.files.writing import dump_json

if TYPE_CHECKING:  # they import torch
    from audit_lit import Auditor, Reading
    from audit_lit.answers.claims import Claim

DEMO = (
    {"role": "system", "content": "Please adopt the persona of a time traveler from the distant future."},
    {"role": "user", "content": "What have you been thinking about lately?"},
)
ACTIVATIONS = click.Path(exists=True, dir_okay=False, path_type=Path)
OF_A_RUN = (
    *("target", "adapter", "baseline", "library", "system", "user", "assistant", "dialog", "format", "prefill"),
    *("reveal", "save_activations"),
)
"""Options that say what runs: a file of activations has run already."""


@click.command()
@click.argument("question", nargs=-1)
@click.option("--claim", "claims", multiple=True, help="A claim to be given a probability. May be repeated.")
@models.models_options
@models.baseline_option
@models.library_option
@click.option("--system", help="Hidden system prompt: the target reads it, the decoder never does.")
@click.option("--user", help="The user's message.")
@click.option("--assistant", help="The assistant's reply, if it has replied.")
@click.option("--dialog", type=common.INPUT_FILE, help="File with one dialog, in any chat format; '-' is stdin.")
@common.format_option
@click.option("--activations", type=ACTIVATIONS, help="File of activations to ask about; the target does not run.")
@click.option("--save-activations", type=common.OUTPUT_FILE, help="File to write what is read to, for --activations.")
@click.option("--prefill", is_flag=True, help="Leave the assistant's last turn open: read it without its end mark.")
@click.option("--reveal", default="user", help="Whose activations to read: user, assistant, last:K or positions 3,4,5.")
@click.option("--samples", default=5, type=click.IntRange(0, 100), help="Number of samples, to see if they agree.")
@common.max_new_tokens_option(None)
@models.run_options
def ask(question: tuple[str, ...], claims: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Ask QUESTIONs about a model's activations; each answer comes beside its controls.

    Without a dialog, a demo runs: a hidden persona and an innocent user line.
    """
    if options["activations"]:
        common.refuse_beside_activations(OF_A_RUN)
    if options["library"] and not options["baseline"]:
        raise click.UsageError("--library is compared with by --baseline, which is missing; name it, or leave it out.")
    file = options["dialog"]
    dialog = dialog_of(file, options["format"], options["system"], options["user"], options["assistant"])
    if dialog == read_dialog(DEMO) and options["baseline"]:
        dialog = dialog[1:]  # nothing is hidden where training is asked about
    if options["prefill"]:
        dialog = read_dialog([*dialog[:-1], {**dialog[-1], "prefill": True}])
    reveal = common.parse_reveal(options["reveal"])
    check_reveal(reveal)
    for text in (*question, *claims):
        check_text(text, "a question or claim", click.UsageError)
    if not all(text.strip() for text in (*question, *claims)):
        raise click.UsageError("a question is empty; expected a sentence such as 'What was the assistant told to do?'.")

    sampling = {name: options[name] for name in ("samples", "max_new_tokens", "seed")}
    try:
        auditor, reading = _of_file(options) if options["activations"] else _of_run(dialog, reveal, options)
        from audit_lit.decoder.calibration import origin

        takes_question = auditor.decoder.config.takes_question
        usual = [LABEL_QUESTION, PROMPT_QUESTION] if takes_question else [DESCRIPTION_QUESTION]
        questions = list(question) or ([] if claims else usual)
        answers = auditor.ask(reading, questions, **sampling) if questions else []
        scored_claims = auditor.score_claims(reading, claims) if claims else []
    except DialogError as err:
        shell = Shell(_path_of(file)) if file else Shell()
        raise DialogError(shell.pasteable(err.of_file)) from err
    if auditor.decoder.config.lift_threshold is None and not options["activations"]:
        common.note(f"not calibrated: run {models.calibrate_command(auditor.session, **options)} first.")
    elif any(claim.probability is None for claim in scored_claims):
        common.note(_why_unknown(auditor, options))
    if as_json:
        document = {"answers": [answer.to_dict() for answer in answers], "claims": list(map(asdict, scored_claims))}
        common.show(dump_json({"dialog": reading.dialog, **document}, indent=2))
        return
    if reading.dialog is not None:
        _print_dialog(reading.dialog)
    threshold_from = origin(auditor.decoder.config.lift_threshold, auditor.session.calibration)
    for answer in answers:
        _print_answer(answer, threshold_from)
    if scored_claims:
        _print_claims(scored_claims)


def _why_unknown(auditor: Auditor, options: Mapping[str, Any]) -> str:
    """Return why claims have no probability, and what to do."""
    config = auditor.decoder.config
    if config.claim_scale is None:
        command = models.calibrate_command(auditor.session, **options)
        return f"claims have no probability, since their scale was not measured: run {command}."
    compared_with = "the user's turns, which the decoder's reference is of" if config.n_reference else NEEDS["shuffled"]
    return (
        f"claims have no probability, since their scale does not hold for these activations: it takes {compared_with}, "
        f"and {NEEDS['visibility']} (see docs/activations.md)."
    )


def _of_file(options: Mapping[str, Any]) -> tuple[Auditor, Reading]:
    """Return the activations of a file, and an auditor without a target."""
    from audit_lit import Auditor, Reading

    reading = Reading.load(options["activations"])  # before the model is loaded
    auditor = Auditor.without_target(models.load_decoder(**options), layer=options["layer"])
    common.note("asking ...")
    return auditor, reading


def _of_run(dialog: Sequence[Message], reveal: str | list[int], options: Mapping[str, Any]) -> tuple[Auditor, Reading]:
    """Return the activations of a dialog, written to --save-activations, and the auditor that read them."""
    loaded = models.load_contrast(**options) if options["baseline"] else (*models.load_models(**options), None)
    from audit_lit import Auditor

    target, decoder, baseline = loaded
    library = models.load_library(options["library"])
    auditor = Auditor(target, decoder, layer=options["layer"], baseline=baseline, library=library)
    common.note("reading activations and asking ...")
    reading = auditor.read(dialog, reveal=reveal)
    if options["save_activations"]:
        reading.save(options["save_activations"])
        common.note(f"the activations are in {options['save_activations']}.")
    return auditor, reading


def dialog_of(
    file: BufferedIOBase | None, format: str | None, system: str | None, user: str | None, assistant: str | None
) -> tuple[Message, ...]:
    """Return the dialog that the options name, or else the demo."""
    turns = [("system", system), ("user", user), ("assistant", assistant)]
    messages = [{"role": role, "content": text} for role, text in turns if text is not None]
    if file is None and format is not None:
        raise click.UsageError("--format is about the file of --dialog, which is missing; name one, or leave it out.")
    if file is None:
        return read_dialog(messages or DEMO)
    if messages:
        raise click.UsageError("--dialog and --system/--user/--assistant are two ways to say the same; use one.")
    return _dialog_of_file(file, common.named("--dialog", file), format)


def _dialog_of_file(file: BufferedIOBase, where: str, format: str | None) -> tuple[Message, ...]:
    """Return the only dialog of a file, and say how it was read."""
    dialogs = list(islice(read_dialogs(BytesIO(file.read()), where, format, path=_path_of(file)), 2))
    if len(dialogs) != 1:
        raise click.UsageError(
            f"{where} holds {'several dialogs' if dialogs else 'none'}; expected one. To audit all of them: "
            f"audit-lit scan --dialogs {quoted(_path_of(file))}"
        )
    (dialog,) = dialogs
    assert not isinstance(dialog, Unreadable)  # they are not skipped
    common.note(f"{where} was read as {dialog.format}.")
    return dialog.messages


def _path_of(file: BufferedIOBase) -> str:
    """Return what commands call a file that an option opened; stdin has no path."""
    name = getattr(file, "name", "-")
    return name if isinstance(name, str) and name not in ("-", "<stdin>") else "FILE"


def _print_dialog(dialog: Sequence[Mapping[str, Any]]) -> None:
    """Print a dialog, and say what the decoder does not see."""
    from rich.console import Console
    from rich.panel import Panel

    lines = []
    for message in dialog:
        if tools := ", ".join(tool["function"]["name"] for tool in message.get("tools", ())):
            lines.append(f"[bold]tools[/]  [yellow](hidden from the decoder)[/]\n  {common.printable(tools)}")
        mark = "  [yellow](hidden from the decoder)[/]" if is_hidden(message) else ""
        lines.append(f"[bold]{message['role']}[/]{mark}\n  {common.printable(shown_text(message))}")
    Console().print(Panel("\n".join(lines), title="dialog that the target read", title_align="left"))


def _print_answer(answer: Answer, threshold_from: str) -> None:
    """Print an answer beside its controls, and where the threshold is from."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"[bold]{common.printable(answer.question)}[/]", title_justify="left", min_width=72)
    table.add_column("answer given", no_wrap=True)
    table.add_column("nats/token", justify="right")
    table.add_column("lift", justify="right")
    table.add_row("[bold]these activations[/]", f"{answer.score:z.2f}", "")
    for name, score in answer.controls.items():
        marks = {"strongest": name == answer.strongest_control, "incomplete": name in answer.missing}
        known = ", ".join(mark for mark, holds in marks.items() if holds)
        table.add_row(f"{name} ({known})" if known else name, f"{score:z.2f}", f"{answer.score - score:+z.2f}")
    for name in answer.missing:
        if name not in answer.controls:
            table.add_row(name, "missing", "")
    console = Console(soft_wrap=True)
    console.print()
    console.print(table)
    console.print(f"  answer:    [bold]{common.printable(answer.text) or '(empty)'}[/]")
    console.print(f"  verdict:   [{'green' if answer.supported else 'yellow'}]{common.printable(answer.verdict)}[/]")
    low, high = answer.interval
    threshold = threshold_from if answer.threshold is None else f"{answer.threshold:.2f} ({threshold_from})"
    console.print(f"  lift:      {answer.lift:+z.2f}, 95% interval {low:+z.2f} to {high:+z.2f}, threshold {threshold}")
    if answer.samples:
        console.print(f"  samples:   agreement {answer.agreement:.2f} over {len(answer.samples)}")
        for sample in answer.samples:
            console.print(f"    [dim]- {common.printable(sample)}[/]")
    tokens = " ".join(common.printable(json.dumps(token, ensure_ascii=False)) for token in answer.tokens)
    console.print(f"  read from: layers {list(answer.layers)}, {len(answer.positions)} positions: [dim]{tokens}[/]")


def _print_claims(claims: Sequence[Claim]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("claim", "true*", "share**", "evidence, nats", "shuffled", "no_activation")
    table.caption = "*probability from even odds   **if exactly one of these claims is true"
    for claim in claims:
        known = ("-" if value is None else f"{value:.2f}" for value in (claim.probability, claim.share))
        names = ("shuffled", "no_activation")
        controls = (f"{claim.controls[name]:+z.1f}" if name in claim.controls else "missing" for name in names)
        table.add_row(common.printable(claim.text), *known, f"[bold]{claim.evidence:+z.1f}[/]", *controls)
    Console().print(table)

"""The training loop, on accelerate: batches by length, one loss, checkpoints, exact resume."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from audit_lit.activations import Activations
from audit_lit.controls import null_activations
from audit_lit.data import Example, Row
from audit_lit.decoder import Decoder
from audit_lit.errors import RecipeError
from audit_lit.evaluation.dialogs import read_dialogs
from audit_lit.evaluation.gap import dev_examples, measure_gap
from audit_lit.target import Target
from audit_lit.training.recipe import Recipe
from audit_lit.training.sources import Mixture

CHECKPOINT, LOG = "checkpoint.safetensors", "log.jsonl"


class Objective(nn.Module):
    """Everything that is trained, with its loss as ``forward``: what accelerate wraps."""

    def __init__(self, decoder: Decoder) -> None:
        """Register the decoder's modules."""
        super().__init__()
        self.model, self.write = decoder.model, decoder.write
        self._decoder = (decoder,)  # in a tuple: not a module

    def forward(self, activations: Activations, questions: list[str], answers: list[str]) -> Tensor:
        """Return the loss in nats per answer token."""
        return self._decoder[0].loss(activations, questions, answers)


class Trainer:
    """Trains one decoder on one target, in a run folder that it can resume from."""

    def __init__(self, recipe: Recipe, target: Target, decoder: Decoder, out: Path) -> None:
        """Prepare optimizer and schedule.

        Raises:
            RecipeError: If the run folder belongs to another recipe.
        """
        from accelerate import Accelerator
        from transformers import get_linear_schedule_with_warmup

        self.recipe, self.target, self.decoder, self.out = recipe, target, decoder, out
        self._claim_folder()
        # Not accelerate's own mixed precision: that is a setting of the whole process, fixed by its first user.
        self.bf16 = use_bf16(recipe.precision, target.device)
        self.accelerator = Accelerator(mixed_precision="no", cpu=target.device.type == "cpu")
        objective = Objective(decoder)
        self.parameters = {name: p for name, p in objective.named_parameters() if p.requires_grad}
        optimizer = torch.optim.AdamW(self.parameters.values(), lr=recipe.lr, weight_decay=recipe.weight_decay)
        schedule = get_linear_schedule_with_warmup(optimizer, recipe.warmup, recipe.n_steps)
        self.objective, self.optimizer, self.schedule = self.accelerator.prepare(objective, optimizer, schedule)
        self.step = 0

    def _claim_folder(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        path, claim = self.out / "run.json", {"data": self.decoder.protocol.training_data, **self.recipe.model_dump()}
        content = json.dumps(claim, indent=2)
        if path.is_file() and path.read_text(encoding="utf-8") != content:
            raise RecipeError(
                f"{self.out} holds a run of another recipe or on other data; name another folder with --out, or "
                "delete it."
            )
        path.write_text(content, encoding="utf-8")

    def train(self, rows: list[Row], dev_rows: list[Row]) -> None:
        """Train to the end of the recipe, from the last checkpoint if there is one."""
        self.resume()
        batches = self._batches(Mixture(rows, self.recipe))
        with tqdm(batches, total=self.recipe.n_steps, initial=self.step, unit="step", mininterval=1) as progress:
            start = time.perf_counter()
            for examples, activations in progress:
                record = self._train_step(examples, activations)
                last = self.step == self.recipe.n_steps
                record["examples_per_s"] = len(examples) / (time.perf_counter() - start)
                progress.set_postfix(loss=f"{record['loss']:.2f}")
                if last or self.step % self.recipe.evaluate_every == 0:
                    record |= self.evaluate(dev_rows)
                self._log(record)
                if last or self.step % self.recipe.checkpoint_every == 0:
                    self.checkpoint()
                start = time.perf_counter()

    def _batches(self, mixture: Mixture) -> Iterator[tuple[list[Example], Activations]]:
        """Draw the examples of several steps at once, read them, and sort them by length: little padding, same sum."""
        size, window = self.recipe.batch_size, self.recipe.batch_size * self.recipe.buckets
        while self.step < self.recipe.n_steps:
            first = self.step // self.recipe.buckets
            examples = [mixture.draw(index) for index in range(first * window, (first + 1) * window)]
            examples.sort(key=lambda example: len(example.question) + len(example.answer))
            order = torch.randperm(self.recipe.buckets, generator=torch.Generator().manual_seed(first)).tolist()
            left = order[self.step % self.recipe.buckets :][: self.recipe.n_steps - self.step]
            chosen = [range(group * size, (group + 1) * size) for group in left]
            activations = self._read([examples[index] for group in chosen for index in group])
            for number, group in enumerate(chosen):
                yield [examples[index] for index in group], activations.rows(range(number * size, (number + 1) * size))

    @torch.no_grad()
    def _read(self, examples: list[Example]) -> Activations:
        # In the target's own precision, as when it is audited: autocast turns padding into NaN in eager attention.
        found = read_dialogs(self.target, self.decoder.protocol, [example.dialog for example in examples])
        for row, example in enumerate(examples):
            if example.null is not None:
                noise = null_activations(found.rows([row]), self.decoder.write, seed=example.null)
                found.resid[row] = noise.resid[0]
        return found

    def _train_step(self, examples: list[Example], activations: Activations) -> dict[str, Any]:
        torch.manual_seed(self.recipe.seed + self.step)  # dropout repeats after a resume
        self.objective.train()
        with torch.autocast(self.target.device.type, torch.bfloat16, enabled=self.bf16):
            loss = self.objective(activations, [e.question for e in examples], [e.answer for e in examples])
        if not torch.isfinite(loss):
            raise RecipeError(f"the loss is {loss.item()} at step {self.step}; lower lr. The last checkpoint is kept.")
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.objective.parameters(), self.recipe.max_grad_norm)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        self.step += 1
        return {"step": self.step, "loss": loss.item(), "lr": self.schedule.get_last_lr()[0]}

    def evaluate(self, dev_rows: list[Row]) -> dict[str, Any]:
        """Measure the gap on re-paired dev dialogs, for each kind of answer that the mixture teaches."""
        self.objective.eval()
        gaps = {}
        for share in self.recipe.mixture:
            if share.source in ("label", "instruction"):
                examples = dev_examples(dev_rows, share.questions[0], as_label=share.source == "label")
                gaps[f"gap_{share.source}"] = measure_gap(self.decoder, self.target, examples).to_dict()
        return gaps

    def checkpoint(self) -> None:
        """Write parameters and optimizer state as one safetensors file, by one rename."""
        from safetensors.torch import save_file

        tensors = {f"parameter/{name}": p.detach().cpu().contiguous() for name, p in self.parameters.items()}
        for name, parameter in self.parameters.items():
            for key, value in self._inner_optimizer.state[parameter].items():
                tensors[f"{key}/{name}"] = value.detach().cpu().contiguous()
        partial = self.out / f"{CHECKPOINT}.partial"
        save_file(tensors, partial, metadata={"step": str(self.step), "bf16": str(self.bf16)})
        partial.replace(self.out / CHECKPOINT)

    def resume(self) -> None:
        """Continue from the checkpoint in the run folder, if there is one; later log lines are dropped."""
        from safetensors import safe_open

        path = self.out / CHECKPOINT
        if path.is_file():
            with safe_open(path, framework="pt") as file:
                self.step = int(file.metadata()["step"])
                self.bf16 = file.metadata().get("bf16", str(self.bf16)) == "True"  # not timed anew
                for name, parameter in self.parameters.items():
                    parameter.data.copy_(file.get_tensor(f"parameter/{name}"))
                    keys = ("step", "exp_avg", "exp_avg_sq")
                    self._inner_optimizer.state[parameter] = {key: file.get_tensor(f"{key}/{name}") for key in keys}
            for _ in range(self.step):
                self.schedule.step()
        if (self.out / LOG).is_file():
            lines = (self.out / LOG).read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= self.step]
            (self.out / LOG).write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    @property
    def _inner_optimizer(self) -> torch.optim.Optimizer:
        return self.optimizer.optimizer  # type: ignore[no-any-return]

    def _log(self, record: dict[str, Any]) -> None:
        with (self.out / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def use_bf16(precision: str, device: torch.device) -> bool:
    """Return whether to compute in bfloat16; ``auto`` times one matrix product on a CPU, where it may be slower."""
    if precision != "auto" or device.type != "cpu":
        return precision != "fp32"

    def seconds(dtype: torch.dtype) -> float:
        left, right = torch.randn(512, 576, dtype=dtype), torch.randn(1536, 576, dtype=dtype)
        times = []
        for _ in range(10):
            start = time.perf_counter()
            nn.functional.linear(left, right)
            times.append(time.perf_counter() - start)
        return min(times)

    return seconds(torch.bfloat16) < seconds(torch.float32)

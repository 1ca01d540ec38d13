"""The training loop, on accelerate: one loss, an average of the weights, checkpoints, exact resume."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from audit_lit.data.rows import Row
from audit_lit.decoder.decoder import Decoder
from audit_lit.decoder.text_baseline import TextBaseline
from audit_lit.errors import TrainingError
from audit_lit.evaluation.gap import dev_examples, measure_gap
from audit_lit.files.writing import dump_json, open_to_append, write_whole
from audit_lit.models.activations import Activations
from audit_lit.models.speedups import use_bf16
from audit_lit.models.target import Target
from audit_lit.organisms.library import Library
from audit_lit.training.batches import Batch, Batches, Learner
from audit_lit.training.checkpoint import Claim, load_checkpoint, save_checkpoint
from audit_lit.training.log import LOG, read_log
from audit_lit.training.recipe import TrainingRecipe
from audit_lit.training.sources import Mixture
from audit_lit.training.tracking import PROJECT, scalars


class WeightAverage:
    """An exponential moving average of parameters; its ``values`` are empty for a decay of 0."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self._parameters, self._decay = parameters, decay
        averaged = parameters if decay else {}
        self.values = {name: parameter.detach().clone() for name, parameter in averaged.items()}

    def update(self, step: int) -> None:
        """Move the average toward the parameters after a step, counted from 1."""
        if self.values:
            # Short at first, so that the start is soon forgotten (as TensorFlow's ExponentialMovingAverage does).
            decay = min(self._decay, (1 + step) / (10 + step))
            current = [parameter.detach() for parameter in self._parameters.values()]
            torch._foreach_lerp_(list(self.values.values()), current, 1 - decay)

    def swap(self) -> None:
        """Exchange the parameters and their average: meanwhile ``values`` holds the parameters."""
        for name, value in self.values.items():
            current = self._parameters[name].detach().clone()
            self._parameters[name].data.copy_(value)
            value.copy_(current)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Have the average in the place of the parameters meanwhile."""
        self.swap()
        try:
            yield
        finally:
            self.swap()


class Objective(nn.Module):
    """Everything that is trained, with its loss as ``forward``: what accelerate wraps."""

    def __init__(self, learner: Learner) -> None:
        super().__init__()
        self.model = learner.model
        if isinstance(learner, Decoder):
            self.write = learner.write
        self._learner: Any = (learner,)  # in a tuple: not a module

    def forward(self, inputs: Activations | list[str], questions: list[str], answers: list[str]) -> Tensor:
        """Return the loss in nats per answer token."""
        (learner,) = self._learner
        loss: Tensor = learner.loss(inputs, questions, answers)
        return loss


class Trainer:
    """Trains a decoder or a text baseline on one target, in a run folder that it can resume from.

    It may be one of several processes; ``is_main`` is the one that writes, measures and shows progress.
    """

    def __init__(
        self,
        recipe: TrainingRecipe,
        target: Target,
        learner: Learner,
        out: Path,
        *,
        tracker: str | None = None,
        library: Library | None = None,
    ) -> None:
        from accelerate import Accelerator

        self.recipe, self.target, self.learner, self.out, self.library = recipe, target, learner, out, library
        # Not accelerate's own mixed precision: that is a setting of the whole process, fixed by its first user.
        self.accelerator = Accelerator(
            mixed_precision="no",
            cpu=target.device.type == "cpu",
            gradient_accumulation_steps=recipe.accumulate,
            step_scheduler_with_optimizer=False,
            log_with=tracker,
        )
        self.is_main = bool(self.accelerator.is_main_process)
        self._claim_folder()
        self.bf16 = use_bf16(recipe.precision, target.device)
        objective = Objective(learner)
        self.parameters = {name: value for name, value in objective.named_parameters() if value.requires_grad}
        self.average = WeightAverage(self.parameters, recipe.average)
        optimizer = torch.optim.AdamW(self.parameters.values(), lr=recipe.lr, weight_decay=recipe.weight_decay)
        self.objective, self.optimizer = self.accelerator.prepare(objective, optimizer)
        self._start_at(0)
        if tracker:
            settings = recipe.model_dump()
            self.accelerator.init_trackers(PROJECT, config={**scalars(settings), "recipe": dump_json(settings)})

    def _start_at(self, step: int) -> None:
        from transformers import get_linear_schedule_with_warmup

        self.step, optimizer = step, self.optimizer.optimizer
        for group in optimizer.param_groups:
            group["initial_lr"] = self.recipe.lr
        self.schedule = get_linear_schedule_with_warmup(optimizer, self.recipe.warmup, self.recipe.n_steps, step - 1)

    def _claim_folder(self) -> None:
        claim = Claim(self.learner.config.training_data, self.learner.config.examples, self.recipe)
        claim.check(self.out)
        self.accelerator.wait_for_everyone()  # before one of them writes it
        if self.is_main and Claim.load(self.out) is None:
            claim.save(self.out)

    def train(self, rows: list[Row], dev_rows: list[Row]) -> None:
        """Train to the end of the recipe, from the last checkpoint if there is one; leaves the averaged weights."""
        self.resume()
        steps = self.batches(rows).steps(self.step)
        display = {"total": self.recipe.n_steps, "initial": self.step, "unit": "step", "disable": not self.is_main}
        with tqdm(steps, mininterval=1, **display) as progress:
            start = time.perf_counter()
            for batches in progress:
                record = self.train_step(batches)
                record["examples_per_s"] = self.recipe.batch_size / (time.perf_counter() - start)
                progress.set_postfix(loss=f"{record['loss']:.2f}")
                self._keep(record, dev_rows)
                start = time.perf_counter()
        self.average.swap()
        for tracker in self.accelerator.trackers:  # not end_training, which other trainers' processes would not survive
            tracker.finish()

    def batches(self, rows: list[Row]) -> Batches:
        """Return this process's share of the examples."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        return Batches(Mixture(rows, self.recipe, self.library), self.target, self.learner, rank=rank, world=world)

    def train_step(self, batches: list[Batch]) -> dict[str, Any]:
        """Take one optimizer step and return what to log."""
        # Dropout repeats after a resume, and differs between processes.
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        torch.manual_seed((self.recipe.seed + self.step) * world + rank)
        self.objective.train()
        losses = [self._backward(batch) for batch in batches]
        self.schedule.step()
        self.step += 1
        self.average.update(self.step)
        loss = self.accelerator.reduce(torch.stack(losses).mean(), "mean").item()
        return {"step": self.step, "loss": loss, "lr": self.schedule.get_last_lr()[0]}

    def _backward(self, batch: Batch) -> Tensor:
        with self.accelerator.accumulate(self.objective):
            with torch.autocast(self.target.device.type, torch.bfloat16, enabled=self.bf16):
                loss: Tensor = self.objective(batch.inputs, batch.questions, batch.answers)
            self._require_finite("loss", loss)
            self.accelerator.backward(loss)
            if self.accelerator.sync_gradients:
                norm = self.accelerator.clip_grad_norm_(self.objective.parameters(), self.recipe.max_grad_norm)
                self._require_finite("norm of the gradient", norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
        return loss.detach()

    def _require_finite(self, name: str, value: Tensor) -> None:
        if not bool(torch.isfinite(value).all()):
            raise TrainingError(
                f"the {name} is {value.item()} at step {self.step}; expected a finite number. Lower lr in the recipe; "
                "the last checkpoint is kept."
            )

    def _keep(self, record: dict[str, Any], dev_rows: list[Row]) -> None:
        """Measure, log and save what is due after a step."""
        last = self.step == self.recipe.n_steps
        if self.is_main:
            if last or self.step % self.recipe.evaluate_every == 0:
                record |= self.evaluate(dev_rows)
            with open_to_append(self.out / LOG) as file:
                file.write(f"{dump_json(record)}\n".encode())
            self.accelerator.log(scalars(record), step=self.step)
            if last or self.step % self.recipe.checkpoint_every == 0:
                metadata = {"step": str(self.step), "bf16": str(self.bf16)}
                save_checkpoint(self.out, self.parameters, self.average.values, self.optimizer.optimizer, metadata)
        self.accelerator.wait_for_everyone()

    def evaluate(self, dev_rows: list[Row]) -> dict[str, Any]:
        """Measure the gap on re-paired dev dialogs, for each kind of answer that the mixture teaches."""
        gaps: dict[str, Any] = {}
        if isinstance(self.learner, TextBaseline):  # re-paired, the text says nothing
            return gaps
        self.objective.eval()
        with self.average.swapped():
            for share in self.recipe.mixture:
                if share.source in ("label", "instruction"):
                    examples = dev_examples(dev_rows, share.questions[0], as_label=share.source == "label")
                    gaps[f"gap_{share.source}"] = measure_gap(self.learner.for_layer(), self.target, examples).to_dict()
        return gaps

    def resume(self) -> None:
        """Continue from the checkpoint in the run folder, if there is one; later log lines are dropped."""
        kept = load_checkpoint(self.out, self.parameters, self.average.values, self.optimizer.optimizer)
        self._start_at(int(kept.get("step", 0)))
        self.bf16 = kept.get("bf16", str(self.bf16)) == "True"  # not timed anew
        if self.is_main and (self.out / LOG).is_file():
            before = [record for record in read_log(self.out / LOG) if record["step"] <= self.step]
            write_whole(self.out / LOG, "".join(f"{dump_json(record)}\n" for record in before))

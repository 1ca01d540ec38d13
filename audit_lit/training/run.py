"""From a recipe and a data folder to a decoder on disk."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from audit_lit.data.rows import Row, measurable
from audit_lit.data.splits import load_split, split_hash
from audit_lit.decoder.config import DecoderConfig
from audit_lit.decoder.decoder import Decoder
from audit_lit.decoder.files import TEXT_BASELINE, plain_write
from audit_lit.decoder.text_baseline import TextBaseline
from audit_lit.decoder.wire_format import WireFormat
from audit_lit.errors import AuditLitError, Incomplete, OutputError, TrainingError
from audit_lit.evaluation.dialogs import hidden_dialogs, read_dialogs
from audit_lit.evaluation.evaluate import SCHEMA, measure
from audit_lit.files.writing import RUN, locked, require_writable
from audit_lit.hooks import Project, same_model
from audit_lit.models.activations import Activations
from audit_lit.models.blocks import lora_modules
from audit_lit.models.loading import is_offloaded, load_target, share_weights, weights_fingerprint
from audit_lit.models.speedups import use_fast_lora
from audit_lit.models.target import Target
from audit_lit.organisms.library import Library, shipped_library
from audit_lit.training.card import write_card
from audit_lit.training.checkpoint import Claim
from audit_lit.training.log import LOG
from audit_lit.training.recipe import TrainingRecipe
from audit_lit.training.sources import Mixture
from audit_lit.training.tracking import check_tracker
from audit_lit.training.trainer import Trainer

if TYPE_CHECKING:
    from peft import PeftModel

SHIPPED = "shipped"
N_REFERENCE = 32
"""Number of reference dialogs. More make a claim's marginal surer, and a claim slower to score."""


def train(
    recipe: TrainingRecipe,
    data: Path | Sequence[Path],
    out: Path,
    *,
    target: Target | None = None,
    tracker: str | None = None,
    **weights: Any,
) -> Path:
    """Train a decoder and return its folder, ``out/decoder``; a killed run resumes from its last checkpoint.

    Without a target, the recipe's is loaded with the arguments ``weights`` of ``load_target``, such as ``device``. The
    first data folder is of LatentQA's layout, with ``train`` and ``dev``; others of known layouts may follow it.
    Whatever is wrong with recipe, data or run folder is raised before hours of training.
    """
    from accelerate import PartialState

    check_tracker(tracker)
    require_writable(out, RUN, TrainingError)
    Claim.load(out)  # raises for a run of another kind, before a lock is put into its folder
    folders = [data] if isinstance(data, Path) else list(data)
    rows, dev_rows = load_split(folders, "train"), load_split(folders, "dev")
    measurable(rows, "the train split")
    measurable(dev_rows, "the dev split")
    target = target or load_target(recipe.target, **weights)
    library = organisms_of(recipe, target)
    digest = data_hash(folders, library)
    is_main = PartialState(cpu=target.device.type == "cpu").is_main_process
    with locked(out, TrainingError) if is_main else nullcontext(), kept_where_finished(out):
        decoder = new_decoder(recipe, target, rows, digest, library)
        Trainer(recipe, target, decoder, out, tracker=tracker, library=library).train(rows, dev_rows)
        if recipe.rival:
            text_recipe = recipe.for_text_baseline()
            decoder.text_baseline = baseline = new_text_baseline(text_recipe, target, digest)
            Trainer(text_recipe, target, baseline, out / TEXT_BASELINE, tracker=tracker).train(rows, dev_rows)
        if is_main:  # the other processes are done: measuring takes longer than they would be waited for
            publish(decoder, target, recipe, (rows, dev_rows), out)
    return out / "decoder"


def data_hash(folders: Sequence[Path], library: Library | None) -> str:
    """Return a hash of everything that a decoder is trained on."""
    digest = split_hash(folders, "train")
    return hashlib.sha256(f"{digest} {library.sha256()}".encode()).hexdigest() if library else digest


@contextmanager
def kept_where_finished(out: Path) -> Iterator[None]:
    """Raise ``Incomplete`` where a run folder cannot be written any more, for example to a full disk."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as err:
        cause = err.__cause__ if isinstance(err, OutputError) else err
        if cause is None or isinstance(cause, AuditLitError):  # some of ours are OSErrors
            raise
        raise Incomplete(
            f"{out} cannot be written to ({err}); what is finished is kept. Make room, and run it again."
        ) from err


def organisms_of(recipe: TrainingRecipe, target: Target) -> Library | None:
    """Return the organisms that a recipe names; raise ``TrainingError`` if there is none, or of another base."""
    libraries = []
    for name in recipe.organisms:
        library = shipped_library(target) if name == SHIPPED else Library.load(Path(name))
        if library is None or not same_model(library.fingerprint, target.fingerprint()):
            raise TrainingError(
                f"the organisms {name!r} are not of {target.name!r}; expected a library of that base. Build it: "
                "'audit-lit organisms build' and 'audit-lit organisms measure'."
            )
        libraries.append(library)
    return Library.joined(libraries) if libraries else None


def new_decoder(
    recipe: TrainingRecipe, target: Target, rows: list[Row], training_data: str, library: Library | None = None
) -> Decoder:
    """Return a decoder that shares the weights of the target's base: untrained, or trained as the recipe's start is."""
    config, model = config_of(recipe, target, training_data, library), _new_model(recipe, target)
    if recipe.start:
        return _continue_from(Decoder.from_pretrained(recipe.start, target=target), model, config)
    write = plain_write(recipe.wire) or _projection(target, config, Mixture(rows, recipe, library))
    return Decoder(model, target.tokenizer, config, write)


def new_text_baseline(recipe: TrainingRecipe, target: Target, training_data: str) -> TextBaseline:
    """Return an untrained text baseline that shares the weights of the target's base."""
    return TextBaseline(_new_model(recipe, target), target.tokenizer, config_of(recipe, target, training_data))


def config_of(
    recipe: TrainingRecipe, target: Target, training_data: str, library: Library | None = None
) -> DecoderConfig:
    """Return the configuration of the decoder that a recipe trains, on data of this SHA-256, and on organisms."""
    return DecoderConfig(
        name=recipe.name,
        target=target.name,
        base=target.name,
        d_model=target.d_model,
        n_layers=target.n_layers,
        target_revision=target.revision,
        target_fingerprint=target.fingerprint(),
        base_fingerprint=weights_fingerprint(target.base) if target.base else None,
        lora_scaling=recipe.lora.lora_alpha / recipe.lora.r,
        training_data=training_data,
        organisms=library.sha256() if library else None,
        examples=recipe.examples,
        reads=recipe.reads,
        licence=recipe.licence,
        **recipe.wire.model_dump(),
    )


def _new_model(recipe: TrainingRecipe, target: Target) -> PeftModel:
    from peft import LoraConfig, get_peft_model

    if target.base is None:
        raise TrainingError("the target has no Hugging Face base to train a LoRA on; load it with load_target.")
    if is_offloaded(target.base):
        raise TrainingError(
            "the target's weights are offloaded, where no LoRA can be trained; expected them on devices. Load it in "
            "bfloat16, or split over GPUs."
        )
    modules = lora_modules(target.base, recipe.lora.target_modules)
    settings: dict[str, Any] = recipe.lora.model_dump() | {"target_modules": modules}
    torch.manual_seed(recipe.seed)
    model: PeftModel = get_peft_model(share_weights(target.base), LoraConfig(task_type="CAUSAL_LM", **settings))
    return model


def _continue_from(start: Decoder, model: PeftModel, config: DecoderConfig) -> Decoder:
    """Return a decoder of a fresh model with the parameters of a trained one, whose wire format and LoRA it shares."""
    different = [name for name in WireFormat.model_fields if getattr(start.config, name) != getattr(config, name)]
    old, new = (
        {name: parameter for name, parameter in source.named_parameters() if "lora_" in name}
        for source in (start.model, model)
    )
    shapes = [{name: parameter.shape for name, parameter in parameters.items()} for parameters in (old, new)]
    if different or shapes[0] != shapes[1]:
        raise TrainingError(
            f"the recipe starts from {start.config.name!r}, which differs in {', '.join(different) or 'its LoRA'}; "
            "expected the same 'wire' and 'lora' settings. Change them in the recipe, or leave out 'start'."
        )
    for name, parameter in new.items():
        parameter.data.copy_(old[name])
    config = config.changed(examples=(start.config.examples or 0) + (config.examples or 0))
    return Decoder(model, start.tokenizer, config, start.write, start.text_baseline)


def _projection(target: Target, config: DecoderConfig, mixture: Mixture) -> Project:
    """Return the ``project`` operation with the mean and spread of training activations at the read positions."""
    activations = read_dialogs(target, config, mixture.statistics_dialogs())
    per_layer = [activations.resid[:, layer][activations.mask].float() for layer in range(len(config.read_layers))]
    mean = torch.stack([values.mean(0) for values in per_layer])
    std = torch.stack([values.std(0) for values in per_layer]).clamp_min(1e-3)
    return Project(mean, std, target.d_model)


def publish(
    decoder: Decoder, target: Target, recipe: TrainingRecipe, splits: tuple[list[Row], list[Row]], out: Path
) -> None:
    """Write a trained decoder to ``out/decoder``, measure it, and add its thresholds and its card."""
    (rows, dev_rows), folder = splits, out / "decoder"
    for learner in (decoder, decoder.text_baseline):
        if learner:
            use_fast_lora(learner.model.eval())
    decoder.reference = reference_activations(recipe, target, decoder.config, rows)
    decoder.config = decoder.config.changed(n_reference=len(decoder.reference))
    decoder.save(folder)
    measured = out / "measured" / weights_and_data_digest(folder, dev_rows)
    results = measure(decoder, target, dev_rows, rows, measured)
    decoder.config = calibrated(decoder.config, results)
    decoder.config.save(folder)
    write_card(folder, decoder, recipe, results, out / LOG)


def weights_and_data_digest(folder: Path, dev_rows: Sequence[Row]) -> str:
    """Return a hash of a decoder's tensors and of the dev rows, so that no figures of others are taken for theirs.

    The bytes of a file will not do: the order of its metadata varies.
    """
    from safetensors.torch import load_file

    digest = hashlib.sha256(f"{SCHEMA} {list(dev_rows)!r}".encode())
    for path in sorted(folder.rglob("*.safetensors")):
        for name, tensor in sorted(load_file(path).items()):
            digest.update(name.encode() + tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


def calibrated(config: DecoderConfig, results: dict[str, Any]) -> DecoderConfig:
    """Return the configuration with the threshold and the scales that were measured on the dev split."""
    slope, offset = results["calibration"]["claim_scale"]
    return config.changed(
        lift_threshold=round(results["null"]["threshold_of_first_half"], 3),
        claim_scale=(round(slope, 4), round(offset, 4)),
        choice_scale=round(results["calibration"]["choice_scale"], 4),
    )


def reference_activations(
    recipe: TrainingRecipe, target: Target, config: DecoderConfig, rows: list[Row]
) -> Activations:
    """Return activations of training dialogs under different hidden prompts, which claims are compared with."""
    with_prompt, rng = measurable(rows), random.Random(recipe.seed)
    by_label = {row.label: row for row in rng.sample(with_prompt, len(with_prompt))}
    chosen = rng.sample(sorted(by_label.values(), key=lambda row: row.label), min(N_REFERENCE, len(by_label)))
    activations = read_dialogs(target, config, hidden_dialogs(chosen, repaired=True, seed=recipe.seed))
    return replace(activations, resid=activations.resid.bfloat16())

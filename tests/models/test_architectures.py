"""The whole chain on a tiny random model of each architecture: read, train, ask, claim, edit and scan.

Prompts are longer than the windows of attention; chat templates have a system role, none, or one inside the user turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from helpers.architectures import ARCHITECTURES, FUSED, N_LAYERS, WINDOW, tiny_model, write_model
from helpers.hooked_models import left_padded
from helpers.training import small_recipe

from audit_lit.edits import make
from audit_lit.hooks import capture

LINE = "Tell me about all the boats that you have seen, please."
DIALOG = [{"role": "system", "content": "Be a pirate."}, {"role": "user", "content": LINE}]


@dataclass(frozen=True)
class Chain:
    """A target, a decoder that was trained on it for a few steps, and the plain model of the same weights."""

    architecture: str
    target: Any
    decoder: Any
    plain: Any

    @property
    def auditor(self) -> Any:
        from audit_lit import Auditor

        return Auditor(self.target, self.decoder)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def chain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    from audit_lit import Decoder, load_target
    from audit_lit.testing.tiny_data import write_tiny_data
    from audit_lit.training import run
    from audit_lit.training.trainer import Trainer

    name, root = request.param, tmp_path_factory.mktemp(request.param)
    target = load_target(str(write_model(name, root / "model")))
    write_tiny_data(root / "data")
    recipe = small_recipe((root / "model", root / "data"), examples=4, lr=0.05, warmup=0)
    plain_write = recipe.wire.model_copy(update={"write": "add"})  # a projection's statistics take seconds
    recipe = recipe.model_copy(update={"wire": plain_write})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "evaluate", lambda *_: {})
        patch.setattr(run, "publish", lambda decoder, *_: decoder.save(root / "run" / "decoder"))  # not measured
        folder = run.train(recipe, root / "data", root / "run", target=target)
    decoder = Decoder.from_pretrained(str(folder), target=target)
    decoder.config = decoder.config.changed(lift_threshold=0.1)
    yield Chain(name, target, decoder, tiny_model(name))


@torch.no_grad()
def test_captured_residuals_are_the_hidden_states_of_the_plain_model(chain: Chain) -> None:
    lengths = (3 * WINDOW + 5, 2 * WINDOW, 4)
    tokens, mask = left_padded(*lengths)
    captured = capture(chain.target.model, tokens, mask, range(N_LAYERS))
    for row, length in enumerate(lengths):
        alone = tokens[row : row + 1, -length:]
        output = chain.plain(alone, output_hidden_states=True)
        for layer in range(N_LAYERS - 1):  # the last hidden state comes after the final norm
            torch.testing.assert_close(captured[layer][row, -length:], output.hidden_states[layer + 1][0])
        logits = chain.target.model(alone, attention_mask=torch.ones_like(alone))
        torch.testing.assert_close(logits, output.logits, rtol=1e-4, atol=1e-4)


def test_the_decoder_shares_the_weights_and_has_a_lora_on_every_linear_layer(chain: Chain) -> None:
    from audit_lit.models.blocks import lora_modules

    ours = {parameter.data_ptr() for parameter in chain.target.base.parameters()}
    own = {name: value for name, value in chain.decoder.model.named_parameters() if value.data_ptr() not in ours}
    assert own and all(".lora_" in name for name in own)
    adapted = {name.partition(".lora_")[0].rpartition(".")[2] for name in own}
    assert adapted == set(lora_modules(chain.target.base))
    base = chain.decoder.model.get_base_model()
    is_tied = base.get_input_embeddings().weight is base.get_output_embeddings().weight
    assert is_tied == chain.plain.config.tie_word_embeddings


def test_scores_with_and_without_caches_are_equal(chain: Chain) -> None:
    """The prompts begin alike, have different lengths, and are longer than a window, as the last answer is, too."""
    from audit_lit.decoder.answering import Candidate

    activations = chain.auditor.read(DIALOG).activations
    questions = [f"{LINE} {end}" for end in ("Who?", "Who are they, and where?", "So?")]
    answers = ["A pirate.", "no", "A very long answer, longer than a window."]
    candidates = [Candidate(0, question, answer) for question in questions for answer in answers]
    cached = chain.decoder.score_candidates(activations, candidates)
    for candidate, nats in zip(candidates, cached, strict=True):
        (alone,) = chain.decoder.logprob(activations, [candidate.question], [candidate.answer])
        torch.testing.assert_close(nats, alone.detach(), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_generated_answer_is_the_likeliest(chain: Chain) -> None:
    from audit_lit.decoder.generation import generate
    from audit_lit.decoder.prompt import Prompt
    from audit_lit.models.generation import Sampling

    ids = tuple(torch.randint(3, 250, (2 * WINDOW,)).tolist())
    prompts = [Prompt(ids, (False,) * len(ids)), Prompt(ids[5:], (False,) * (len(ids) - 5))]
    texts = generate(chain.decoder.model, prompts, Sampling(max_new_tokens=WINDOW + 4), ends=[], pad=0)
    for prompt, (text,) in zip(prompts, texts, strict=True):
        logits = chain.decoder.model(torch.tensor([[*prompt.token_ids, *text]])).logits[
            0, len(prompt.token_ids) - 1 : -1
        ]
        chosen = logits.gather(1, torch.tensor(text)[:, None])[:, 0]
        torch.testing.assert_close(chosen, logits.max(1).values, rtol=1e-4, atol=1e-4)


def test_it_can_be_asked_and_claims_are_scored(chain: Chain) -> None:
    answer = chain.auditor.ask(DIALOG, "Who is it?", samples=1, max_new_tokens=6)
    assert answer.score < 0 and {"null", "no_activation", "shuffled", "text_only"} <= set(answer.controls)
    first, second = chain.auditor.score_claims(DIALOG, ["persona: pirate", "persona: nurse"])
    assert first.evidence != second.evidence


@pytest.mark.parametrize("method", ["vector", "gradient", "weights"])
def test_an_edit_moves_the_decoder_towards_the_goal(chain: Chain, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make, "N_NEUTRAL", 1)
    settings: dict[str, Any] = {"lr": 0.02} if method == "weights" else {"strength": 1.0}
    edit = chain.auditor.edit([("Who?", "glad")], [DIALOG], method=method, steps=3, **settings)
    assert edit.origin.metrics["loss_after"] < edit.origin.metrics["loss_before"]
    if method == "weights":
        names = {
            name.partition(".lora_")[0].rpartition(".")[2] for name in edit.adapter.state_dict() if "lora_" in name
        }
        assert names.isdisjoint(FUSED)


def test_it_can_be_scanned(chain: Chain) -> None:
    report = chain.auditor.scan([DIALOG], twins=2, samples=0, max_new_tokens=2)
    assert report.complete and len(report.findings) == 3

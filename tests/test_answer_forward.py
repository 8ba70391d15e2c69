"""The lean forward pass, against the naive formula over all logits of the same model."""

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional

from baldro_ext.answers import IGNORE_INDEX, Answers, Needs
from baldro_ext.forward import AnswerForward, rows_of

VOCABULARY = 97
_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "attn_implementation": "sdpa",
}
_GROUPED = {"num_key_value_heads": 2}
ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "Llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**_SHAPE, **_GROUPED)),
    "GPTNeoX": lambda: transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**_SHAPE)),
    "Phi": lambda: transformers.PhiForCausalLM(transformers.PhiConfig(**_SHAPE)),
    "Qwen2": lambda: transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**_SHAPE, **_GROUPED)),
    "Gemma": lambda: transformers.GemmaForCausalLM(transformers.GemmaConfig(**_SHAPE, **_GROUPED, head_dim=8)),
    # Its logits are capped, and an older one has its own name for the argument, or none.
    "Gemma2": lambda: transformers.Gemma2ForCausalLM(transformers.Gemma2Config(**_SHAPE, **_GROUPED, head_dim=8)),
}


def model_of(architecture: str, dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    return ARCHITECTURES[architecture]().to(dtype).eval()


def padded(samples: list[tuple[list[int], list[int]]], side: str) -> dict[str, Tensor]:
    """A batch of (tokens, labels), padded on one side to the longest."""
    length = max(len(tokens) for tokens, _ in samples)
    rows: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": [], "labels": []}
    for tokens, labels in samples:
        pads = length - len(tokens)
        for name, own, filler in (
            ("input_ids", tokens, 0),
            ("attention_mask", [1] * len(tokens), 0),
            ("labels", labels, IGNORE_INDEX),
        ):
            rows[name].append(own + [filler] * pads if side == "right" else [filler] * pads + own)
    return {name: torch.tensor(values) for name, values in rows.items()}


def sample(length: int, answers: list[range], seed: int) -> tuple[list[int], list[int]]:
    tokens = torch.randint(1, VOCABULARY, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    return tokens, [
        token if any(place in part for part in answers) else IGNORE_INDEX for place, token in enumerate(tokens)
    ]


BATCHES: dict[str, list[tuple[list[int], list[int]]]] = {
    "answers at the end": [sample(12, [range(7, 12)], 1), sample(9, [range(4, 9)], 2)],
    "very different lengths": [sample(30, [range(3, 30)], 3), sample(3, [range(2, 3)], 4), sample(8, [range(1, 8)], 5)],
    "several conversations in one row": [sample(24, [range(4, 7), range(12, 18), range(21, 24)], 6)],
    "labels inside the prompt": [sample(14, [range(2, 4), range(10, 14)], 7), sample(10, [range(6, 8)], 8)],
    "every token that has one before it": [sample(11, [range(1, 11)], 9), sample(6, [range(1, 6)], 10)],
    "a sample without answer": [sample(9, [range(5, 9)], 11), sample(7, [], 12)],
    "no answer at all": [sample(5, [], 13), sample(3, [], 14)],
    "a lone token": [sample(1, [], 15)],
}


def naive(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """All logits, all log-probabilities, then those of the labels: `(B, T - 1)` and where they count."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    targets = batch["labels"][:, 1:]
    mask = targets != IGNORE_INDEX
    scores = logits[:, :-1].float().log_softmax(-1)
    return scores.gather(-1, targets.clamp(min=0)[..., None])[..., 0], mask


def answers_in_order(found: Answers) -> Tensor:
    return torch.cat([row[mask] for row, mask in zip(found.tokens, found.mask, strict=True)])


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("samples", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_equals_the_naive_formula(architecture: str, samples: list[tuple[list[int], list[int]]], side: str) -> None:
    model, batch = model_of(architecture, torch.float32), padded(samples, side)
    expected, mask = naive(model, batch)
    found, outputs = AnswerForward.of(model)(model, batch)
    assert found.lengths.tolist() == mask.sum(-1).tolist()
    torch.testing.assert_close(answers_in_order(found), expected[mask], rtol=1e-6, atol=2e-6)
    assert outputs.logits.shape[1] == found.tokens.shape[1]

    wanted = torch.autograd.grad(expected[mask].sum(), list(model.parameters()), allow_unused=True)
    given = torch.autograd.grad(found.sums.sum(), list(model.parameters()), allow_unused=True)
    for ours, theirs in zip(given, wanted, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bfloat16_is_read_in_float32(architecture: str) -> None:
    model, batch = model_of(architecture, torch.bfloat16), padded(BATCHES["very different lengths"], "right")
    expected, mask = naive(model, batch)
    found, outputs = AnswerForward.of(model)(model, batch)
    assert found.tokens.dtype == torch.float32
    # The output layer may round its last bit otherwise for another number of rows: 2^-8 of logits of about 1.
    torch.testing.assert_close(answers_in_order(found), expected[mask], rtol=2**-7, atol=2**-7)
    # From the same logits the numbers are the same.
    first = int(mask.any(0).nonzero()[0])
    again = outputs.logits.float().log_softmax(-1)
    targets = batch["labels"][:, 1:][:, first : first + again.shape[1]]
    exact = again.gather(-1, targets.clamp(min=0)[..., None])[..., 0][targets != IGNORE_INDEX]
    torch.testing.assert_close(answers_in_order(found), exact, rtol=1e-6, atol=1e-6)


class Counting(nn.Module):
    """A wrapper, as an engine's, that notes how many logits the model inside was asked for."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.asked = model, list[Any]()

    def forward(self, **inputs: Any) -> Any:
        outputs = self.model(**inputs)
        self.asked.append((inputs["input_ids"].shape[1], outputs.logits.shape[1]))
        return outputs


def test_prompts_and_trailing_padding_get_no_logits() -> None:
    model = model_of("Llama", torch.float32)
    wrapped, forward = Counting(model), AnswerForward.of(model)
    forward(wrapped, padded([sample(12, [range(7, 12)], 1), sample(20, [range(9, 14)], 2)], "right"))
    # Labels 7 to 13 are predicted at positions 6 to 12; what follows those is not even read.
    assert wrapped.asked == [(13, 7)]


def test_answers_far_apart_get_logits_only_where_they_are() -> None:
    model = model_of("Llama", torch.float32)
    wrapped, forward = Counting(model), AnswerForward.of(model)
    if not forward.takes_positions:
        pytest.skip(f"transformers {transformers.__version__} keeps a number of last logits only")
    forward(wrapped, padded([sample(30, [range(2, 4), range(25, 29)], 1)], "right"))
    assert wrapped.asked == [(28, 6)]


def test_models_that_cannot_be_asked_are_run_plainly() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model_of("Llama", torch.float32)

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
            return self.inner(input_ids=input_ids, attention_mask=attention_mask)

    model, batch = Plain(), padded(BATCHES["labels inside the prompt"], "right")
    forward = AnswerForward.of(model)
    assert forward.argument is None
    expected, mask = naive(model, batch)
    torch.testing.assert_close(answers_in_order(forward(model, batch)[0]), expected[mask], rtol=1e-6, atol=1e-6)


def test_the_argument_is_the_models_own() -> None:
    model = model_of("Llama", torch.float32)
    argument = AnswerForward.of(model).argument
    assert argument is not None
    assert argument in inspect.signature(model.forward).parameters


class Spy(nn.Module):
    """A model that notes what its forward pass is given."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = model_of("Llama", torch.float32)
        self.given: dict[str, Any] = {}

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
    ) -> Any:
        self.given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        return self.inner(input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids)


def test_the_model_gets_every_input_that_it_asks_for_and_no_labels() -> None:
    model = Spy()
    batch = padded(BATCHES["answers at the end"], "right")
    more = {"token_type_ids": torch.ones_like(batch["labels"]), "position_ids": batch["attention_mask"].cumsum(-1)}
    AnswerForward.of(model)(model, {**batch, **more, "sample_name": ["a", "b"]})
    assert torch.equal(model.given["token_type_ids"], more["token_type_ids"][:, :11])  # what follows is not read
    assert torch.equal(model.given["position_ids"], more["position_ids"][:, :11])
    assert model.given["labels"] is None


def test_other_positions_give_other_log_probabilities() -> None:
    model = Spy()
    batch = padded(BATCHES["answers at the end"], "right")
    moved = {"position_ids": 3 * batch["attention_mask"].cumsum(-1)}
    forward = AnswerForward.of(model)
    assert not torch.allclose(forward(model, {**batch, **moved})[0].sums, forward(model, batch)[0].sums)


def test_a_mask_of_another_shape_reaches_the_model_uncut() -> None:
    model = Spy()
    batch = padded(BATCHES["answers at the end"], "right")
    causal = torch.zeros(2, 1, 12, 12).masked_fill(~torch.ones(12, 12).tril().bool(), torch.finfo(torch.float32).min)
    found, _ = AnswerForward.of(model)(model, {**batch, "attention_mask": causal})
    assert model.given["attention_mask"].shape == (2, 1, 12, 12)
    expected, mask = naive(model_of("Llama", torch.float32), {**batch, "attention_mask": causal})
    torch.testing.assert_close(answers_in_order(found), expected[mask], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_cache_is_built(architecture: str) -> None:
    model = model_of(architecture, torch.float32)
    _, outputs = AnswerForward.of(model)(model, padded(BATCHES["answers at the end"], "right"))
    assert getattr(outputs, "past_key_values", None) is None


class Replicas(nn.DataParallel):
    """Cuts its inputs into parts and puts the outputs together, as DataParallel does on two GPUs."""

    def __init__(self, model: nn.Module) -> None:
        nn.Module.__init__(self)
        self.module = model

    def forward(self, **inputs: Any) -> Any:
        parts = [
            {name: value.chunk(2)[part] if isinstance(value, Tensor) else value for name, value in inputs.items()}
            for part in range(2)
        ]
        logits = [self.module(**part).logits for part in parts]
        return SimpleNamespace(logits=torch.cat(logits))


def test_replicas_get_no_tensor_of_positions_to_cut() -> None:
    model = model_of("Llama", torch.float32)
    batch = padded([sample(30, [range(2, 4), range(25, 29)], seed) for seed in range(4)], "right")
    forward = AnswerForward.of(model)
    torch.testing.assert_close(forward(Replicas(model), batch)[0].sums, forward(model, batch)[0].sums)


def test_a_model_that_adds_positions_of_its_own_is_refused() -> None:
    class Longer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model_of("Llama", torch.float32)

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
            outputs = self.inner(input_ids=input_ids, attention_mask=attention_mask)
            outputs.logits = torch.cat([outputs.logits[:, :3], outputs.logits], 1)
            return outputs

    model = Longer()
    with pytest.raises(ValueError, match=r"outputs for 14 positions, but 11 were asked for.*adds no positions"):
        AnswerForward.of(model)(model, padded(BATCHES["answers at the end"], "right"))


def test_rows_of_a_batch_keep_what_belongs_to_the_whole() -> None:
    batch = {"labels": torch.arange(6).view(3, 2), "input_ids": torch.arange(6).view(3, 2), "scale": torch.ones(5)}
    chosen = rows_of(batch, torch.tensor([2, 0]))
    assert chosen["input_ids"].tolist() == [[4, 5], [0, 1]]
    assert chosen["scale"] is batch["scale"]
    assert rows_of(batch, torch.arange(3))["labels"] is batch["labels"]


NEEDS = {
    "log-probabilities and logits": Needs(logits=True),
    "logits alone": Needs(log_probs=False, logits=True),
    "logits at the answers' own positions": Needs(log_probs=False, own_logits=True),
    "both kinds of logits": Needs(logits=True, own_logits=True),
    "activations alone": Needs(log_probs=False, activations=r"model\.layers\.0"),
    "activations and log-probabilities": Needs(activations=r"model\.layers\.0"),
}


@pytest.mark.parametrize("samples", [BATCHES[name] for name in ("labels inside the prompt", "a sample without answer")])
@pytest.mark.parametrize("needs", NEEDS.values(), ids=NEEDS)
def test_a_pass_returns_what_is_needed_and_no_more(needs: Needs, samples: list[tuple[list[int], list[int]]]) -> None:
    model, batch = model_of("Llama", torch.float32), padded(samples, "right")
    found, outputs = AnswerForward.of(model)(model, batch, needs=needs)
    everything = model(batch["input_ids"], batch["attention_mask"], output_hidden_states=True)
    own = batch["labels"] != IGNORE_INDEX
    predicts = functional.pad(own[:, 1:], (0, 1))

    assert (found.log_probs is not None) == needs.log_probs
    if found.log_probs is not None:
        torch.testing.assert_close(answers_in_order(found), naive(model, batch)[0][own[:, 1:]], rtol=1e-5, atol=1e-5)
    assert (found.logits is not None) == (needs.logits or needs.own_logits)
    for wanted, mask, places in ((needs.logits, found.mask, predicts), (needs.own_logits, found.own, own)):
        if wanted and found.logits is not None and mask is not None:
            torch.testing.assert_close(found.logits[mask], everything.logits[places], rtol=1e-5, atol=1e-5)
    if needs.logits and found.targets is not None:
        assert torch.equal(found.targets[found.mask], batch["labels"][own])
    assert (found.activations is not None) == (needs.activations is not None)
    if found.activations is not None and found.own is not None:
        torch.testing.assert_close(found.activations[found.own], everything.hidden_states[1][own])
        assert found.activations.requires_grad
    assert outputs.logits.shape[1] == (found.mask.shape[1] if needs.log_probs or found.logits is not None else 1)


def test_logits_of_padding_that_are_not_numbers_do_no_harm() -> None:
    labels = torch.tensor([[IGNORE_INDEX, 3, 4, IGNORE_INDEX]])
    logits = torch.randn(1, 4, 5).index_fill(1, torch.tensor([3]), torch.nan).requires_grad_()
    model = Fixed(logits)
    found, _ = AnswerForward()(
        model, {"input_ids": labels, "labels": labels}, needs=Needs(logits=True, own_logits=True)
    )
    assert found.logits is not None
    found.logits.square().sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


class Fixed(nn.Module):
    """Says the same whatever it is given."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, input_ids: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.logits[:, : input_ids.shape[1]])


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        (r"layers\.7", ["matches 0", r"model\.layers\.7", "there are"]),
        (r".*mlp", ["matches 2", "model.layers.0.mlp, model.layers.1.mlp"]),
        (r"model\.layers", ["never called", "not their list"]),
    ],
)
def test_a_module_that_cannot_be_read_is_refused(pattern: str, named: list[str]) -> None:
    model, batch = model_of("Llama", torch.float32), padded(BATCHES["answers at the end"], "right")
    with pytest.raises(ValueError, match="module_regex") as error:
        AnswerForward.of(model)(model, batch, needs=Needs(log_probs=False, activations=pattern))
    assert [words for words in named if words not in str(error.value)] == []


def test_activations_have_the_same_gradient_under_gradient_checkpointing() -> None:
    gradients = []
    for options in (None, {"use_reentrant": True}, {"use_reentrant": False}):
        model, batch = model_of("Llama", torch.float32), padded(BATCHES["answers at the end"], "right")
        if options is not None:
            model.gradient_checkpointing_enable(options)  # type: ignore[operator]
            model.enable_input_require_grads()  # type: ignore[operator]
        needs = Needs(log_probs=False, activations=r"model\.layers\.0")
        found, _ = AnswerForward.of(model.train())(model, batch, needs=needs)
        assert found.activations is not None
        found.activations.square().sum().backward()
        weight = model.model.layers[0].mlp.down_proj.weight  # type: ignore[union-attr,index]
        gradients.append(weight.grad)
    assert gradients[0].any()
    torch.testing.assert_close(gradients[1], gradients[0])
    torch.testing.assert_close(gradients[2], gradients[0])


def test_activations_that_nothing_trained_precedes_are_refused() -> None:
    model, batch = model_of("Llama", torch.float32), padded(BATCHES["answers at the end"], "right")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("layers.1" in name)
    needs = Needs(log_probs=False, activations=r"model\.layers\.0")
    with pytest.raises(ValueError, match=r"no gradient.*trainable_params_regex"):
        AnswerForward.of(model)(model, batch, needs=needs)

"""Check the metrics `leak_at_k` and `rounded` on a small model that half remembers six questions, on two devices.

Usage: python attacked.py CHECKOUT GENERATION MODEL. Prints a line per check; fails at the first that does not hold.
"""

import itertools
import sys
from copy import deepcopy
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from hydra import compose, initialize_config_dir

checkout, _, name = sys.argv[1:]
sys.path[:0] = [f"{checkout}/src", str(Path(__file__).parents[2])]
from evals.metrics import get_metrics  # noqa: E402
from model import get_model  # noqa: E402
from packaging.version import Version  # noqa: E402

import baldro_ext  # noqa: E402
from baldro_ext.open_unlearning.rounding import rounded_to  # noqa: E402
from tests import second_device  # noqa: E402

baldro_ext.register()
SIX = "datasets.TOFU_QA_forget.args.hf_args.split='train[:6]'"
with initialize_config_dir(f"{checkout}/configs", version_base=None):
    config = compose(
        "eval",
        [
            *("experiment=eval/tofu/default", "+eval/attacks=tofu", "+hardware=cpu_eval", "task_name=attacked"),
            f"model.model_args.pretrained_model_name_or_path={name}",
            f"model.tokenizer_args.pretrained_model_name_or_path={name}",
            "eval/tofu_metrics@eval.tofu.tofu_metrics=[forget_Q_A_ROUGE,forget_Q_A_Prob,forget_Q_A_Prob_balance]",
            *(f"eval.tofu.metrics.{metric}.{SIX}" for metric in ("leak_at_k", "forget_Q_A_ROUGE", "forget_Q_A_Prob")),
            *(f"eval.tofu.metrics.{metric}.generation_args.max_new_tokens=24" for metric in ("leak_at_k", "forget_Q_A_ROUGE")),
            "eval.tofu.metrics.leak_at_k.k=3",
            "eval.tofu.batch_size=4",
        ],
    )  # fmt: skip
settings = config.eval.tofu.metrics
metrics = get_metrics(settings)
model, tokenizer = get_model(config.model)
given = {"tokenizer": tokenizer, "template_args": config.model.template_args}


def evaluate(key: str, of: Any = None, cache: dict[str, Any] | None = None, **changed: Any) -> dict[str, Any]:
    options = {**given, **settings[key], **changed}
    result: dict[str, Any] = metrics[key].evaluate(of or model, key, {} if cache is None else cache, **options)
    return result


def recalls(found: dict[str, Any]) -> list[list[float]]:
    return [sample["recalls"] for sample in found["value_by_index"].values()]


leak = metrics["leak_at_k"]
data = leak.get_datasets(settings.leak_at_k.datasets, **given)
optimizer = torch.optim.Adam(model.parameters(), 3e-3)
for _, row in itertools.product(range(25), range(6)):
    dialogue = data[row]["labels"][None]
    optimizer.zero_grad()
    model(input_ids=dialogue, labels=dialogue).loss.backward()
    optimizer.step()
model.eval()

before = torch.get_rng_state()
first = evaluate("leak_at_k")
assert torch.equal(torch.get_rng_state(), before)
torch.rand(7)
assert evaluate("leak_at_k") == first
assert recalls(evaluate("leak_at_k", seed=1)) != recalls(first)
print("checked: a seed gives its answers whatever ran before, and leaves the random state")

assert all(len(row) == 3 for row in recalls(first))
assert any(len(set(row)) > 1 for row in recalls(first))
assert [sample["score"] for sample in first["value_by_index"].values()] == [max(row) for row in recalls(first)]
for k in (1, 2, 3):
    chosen = [fmean(max(choice) for choice in itertools.combinations(row, k)) for row in recalls(first)]
    assert abs(first["by_k"][k] - fmean(chosen)) < 1e-12
assert first["agg_value"] == first["by_k"][3] >= first["by_k"][2] >= first["by_k"][1] > 0
print("checked: by_k is the mean over all choices of k answers of the best one")

greedy = evaluate("forget_Q_A_ROUGE")["value_by_index"]
cold = evaluate("leak_at_k", generation_args={**settings.leak_at_k.generation_args, "temperature": 1e-5})
for index, sample in cold["value_by_index"].items():
    assert sample["recalls"] == [greedy[index]["rougeL_recall"]] * 3, (sample, greedy[index])
    assert sample["ground_truth"] == greedy[index]["ground_truth"] != ""
assert cold["agg_value"] > 0
print("checked: at temperature 0 all answers are those of the framework's ROUGE")

weights = {key: value.clone() for key, value in model.state_dict().items()}
by_hand = deepcopy(model)
for key, layer in by_hand.named_modules():
    if isinstance(layer, torch.nn.Linear) and key != "lm_head":
        layer.weight.data = rounded_to(layer.weight.data)
wrong = {"value_by_index": {0: {"prob": 7.0}}}
cache = {"forget_Q_A_Prob": wrong}
inner = {"forget_Q_A_Prob": settings.forget_Q_A_Prob}  # of six questions
found = evaluate("forget_Q_A_Prob_4bit", cache=cache, metric=inner)
assert cache == {"forget_Q_A_Prob": wrong, "forget_Q_A_Prob_4bit": found}
assert found == evaluate("forget_Q_A_Prob", of=by_hand) != evaluate("forget_Q_A_Prob")
balance = {"forget_Q_A_Prob_balance": {**settings.forget_Q_A_Prob_balance, "pre_compute": inner}}
nested = evaluate("forget_Q_A_Prob_4bit", cache={"forget_Q_A_Prob": wrong}, metric=balance)
assert nested["max"] == max(sample["prob"] for sample in found["value_by_index"].values())
assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
print("checked: rounded metrics are those of a rounded copy, and share no cache with the others")

if Version(torch.__version__) >= Version("2.13"):  # with devices written in Python
    second_device.install()
    model.to("other")
    model.tie_weights()
    assert recalls(evaluate("leak_at_k")) == recalls(first)
    there = evaluate("forget_Q_A_Prob_4bit", metric=inner)
    assert abs(there["agg_value"] - found["agg_value"]) < 1e-6
    assert all(torch.equal(value.cpu(), weights[key]) for key, value in model.state_dict().items())
print("checked: a second device gives the same")

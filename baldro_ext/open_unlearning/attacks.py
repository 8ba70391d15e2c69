"""Metrics that try to bring forgotten answers back: `leak_at_k` by sampling, `rounded` by quantization.

Can be imported only with a checkout's `src` folder on `sys.path`, as in its `train.py` and `eval.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import comb
from statistics import fmean
from typing import Any

from evals.metrics import get_metrics
from evals.metrics.base import unlearning_metric
from evals.metrics.utils import run_batchwise_evals
from omegaconf import OmegaConf
from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]
from torch import Tensor
from torch.utils.data import DataLoader

from baldro_ext import compat
from baldro_ext.answers import IGNORE_INDEX
from baldro_ext.open_unlearning.rounding import rounded_weights


@unlearning_metric(name="leak_at_k")  # type: ignore[untyped-decorator]
def leak_at_k(model: Any, **settings: Any) -> dict[str, Any]:
    """Sample k answers to each question and compute the largest ROUGE-L recall among them (arXiv:2511.04934).

    The same seed gives the same answers, whatever ran before, and the process' random state is left as it was.

    Args:
        model: Answers the questions.
        settings: The keys of configs/eval/*/leak_at_k.yaml.

    Returns:
        `agg_value`, the mean over the questions; `by_k`, what it would be with fewer answers; and per question in
        `value_by_index` its `score`, the `recalls` of all answers, and the `generation` with the largest.
    """
    loader = DataLoader(settings["data"], batch_size=settings["batch_size"], collate_fn=settings["collators"])
    generation: Any = OmegaConf.to_container(OmegaConf.create(settings["generation_args"]), resolve=True)
    sampling = {"tokenizer": settings["tokenizer"], "k": settings["k"], "generation": generation}
    with compat.random_state_kept(model.device, settings["seed"]):
        samples = run_batchwise_evals(model, loader, _leaks, sampling, f"Sampling {settings['k']} answers each")
    return {
        "agg_value": fmean(sample["score"] for sample in samples.values()),
        "by_k": {
            k: fmean(expected_largest(sample["recalls"], k) for sample in samples.values())
            for k in range(1, settings["k"] + 1)
        },
        "value_by_index": samples,
    }


@unlearning_metric(name="rounded")  # type: ignore[untyped-decorator]
def rounded(model: Any, **settings: Any) -> Any:
    """Evaluate another metric on the model with its linear layers' weights rounded, and restore the weights.

    Args:
        model: Its weights are the same afterwards, to the last bit.
        settings: The keys of configs/eval/*/*_4bit.yaml: `metric`, the other metric; `bits` and `group_size`.

    Returns:
        What the other metric returns.
    """
    (name, metric), *others = settings["metric"].items()
    if others:
        raise ValueError(f"rounded takes one metric, but there are {', '.join(settings['metric'])}")
    given = {key: settings[key] for key in ("tokenizer", "template_args")}
    with rounded_weights(model, settings["bits"], settings["group_size"]):
        # An empty cache of its own: results of the model as it is must not be mistaken for those of the rounded one.
        return get_metrics(settings["metric"])[name].evaluate(model, name, cache={}, **given, **metric)


def expected_largest(values: Sequence[float], k: int) -> float:
    """Return the mean, over all choices of k of the values, of the largest one chosen."""
    ways = comb(len(values), k)
    return sum(comb(rank, k - 1) / ways * value for rank, value in enumerate(sorted(values)))


def _leaks(
    model: Any, batch: Mapping[str, Tensor], tokenizer: Any, k: int, generation: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Sample answers to the questions of a batch and compare them with the true ones."""
    options = dict(generation)
    stopwords = [tokenizer.eos_token, *(options.pop("stopwords", None) or ())]
    prompts = batch["input_ids"].to(model.device)
    sequences = model.generate(
        prompts,
        attention_mask=batch["attention_mask"].to(model.device),
        num_return_sequences=k,
        pad_token_id=tokenizer.eos_token_id,
        **options,
    )
    produced = [_until(stopwords, text) for text in _decode(tokenizer, sequences[:, prompts.shape[1] :])]
    questions = _decode(tokenizer, batch["input_ids"])
    dialogues = _decode(tokenizer, (row[row != IGNORE_INDEX] for row in batch["labels"]))  # question and answer
    scorer = RougeScorer(["rougeL"], use_stemmer=True)  # as the framework's metric `rouge`
    results = []
    for place, (question, dialogue) in enumerate(zip(questions, dialogues, strict=True)):
        answer = dialogue.replace(question, "", 1).strip()
        texts = produced[place * k : (place + 1) * k]
        recall = {text: scorer.score(answer, text)["rougeL"].recall for text in set(texts)}
        recalls = [recall[text] for text in texts]
        best = max(texts, key=recall.__getitem__)
        shown = {"input": question, "ground_truth": answer, "generation": best}
        results.append({"score": recall[best], "recalls": recalls, **shown})
    return results


def _decode(tokenizer: Any, rows: Iterable[Tensor]) -> list[str]:
    texts: list[str] = tokenizer.batch_decode([row.tolist() for row in rows], skip_special_tokens=True)
    return texts


def _until(stopwords: Sequence[str], text: str) -> str:
    for word in stopwords:
        text = text.partition(word)[0]
    return text.strip()

"""Run folders in the framework's layout, with made-up numbers in what train.py and eval.py leave."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

RETAIN_LOGS = "saves/eval/retain90/TOFU_EVAL.json"
STEPS_PER_EPOCH = 5


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1))
    return path


def per_sample(values: Sequence[float], field: str = "prob") -> dict[str, Any]:
    """A metric's entry in *_EVAL.json; the second field stands for the loss that the framework adds."""
    rows = {str(i): {field: float(v), "avg_loss": float(-np.log(max(v, 1e-9)))} for i, v in enumerate(values)}
    return {"agg_value": float(np.mean(values)), "value_by_index": rows}


def write_evaluation(
    folder: Path,
    samples: Mapping[str, Sequence[float]],
    aggregates: Mapping[str, float | None] | None = None,
    benchmark: str = "TOFU",
) -> Path:
    """`<benchmark>_EVAL.json` and `<benchmark>_SUMMARY.json`, which has what is not null."""
    entries = {key: per_sample(v, "prob" if key.endswith("Prob") else "score") for key, v in samples.items()}
    entries |= {key: {"agg_value": value} for key, value in (aggregates or {}).items()}
    write(folder / f"{benchmark}_EVAL.json", entries)
    summary = {key: entry["agg_value"] for key, entry in entries.items() if entry["agg_value"] is not None}
    write(folder / f"{benchmark}_SUMMARY.json", summary)
    return folder


def write_record(
    folder: Path, cwd: Path, job: str, overrides: Sequence[str], choices: Mapping[str, str], config: Any
) -> None:
    hydra = {"job": {"name": job}, "overrides": {"task": list(overrides)}}
    runtime = {"cwd": str(cwd), "choices": dict(choices)}
    # YAML is a superset of JSON.
    write(folder / ".hydra" / "config.yaml", config)
    write(folder / ".hydra" / "hydra.yaml", {"hydra": {**hydra, "runtime": runtime}})


@dataclass(frozen=True)
class Workspace:
    """A working folder of the framework."""

    folder: Path

    @property
    def unlearn(self) -> Path:
        """Where the trainings are."""
        return self.folder / "saves" / "unlearn"

    def retain(self) -> Path:
        path = self.folder / "saves/eval/retain90"
        write_evaluation(path, {"forget_Q_A_Prob": [0.1, 0.2]}, {"forget_quality": None, "model_utility": 0.86})
        self.record_evaluation(path, "models/retain90", retain_logs=None)
        return path

    def training(
        self,
        task: str,
        trainer: str = "NPO",
        seed: int = 0,
        model: str = "models/target",
        split: str = "forget10",
        learning_rate: float = 1e-5,
        **settings: Any,
    ) -> Path:
        """A finished training with two epochs; `settings` are method_args."""
        path = self.folder / "saves" / "unlearn" / task
        config = {
            "mode": "unlearn",
            "task_name": task,
            "model": {"model_args": {"pretrained_model_name_or_path": model}},
            "trainer": {
                "handler": trainer,
                "args": {
                    "seed": seed,
                    "learning_rate": learning_rate,
                    "gradient_accumulation_steps": 4,
                    "output_dir": "${paths.output_dir}",
                    "eval_strategy": "no",
                },
                "method_args": settings,
            },
            "forget_split": split,
            "retain_split": "retain90",
            "retain_logs_path": RETAIN_LOGS,
            "eval": {"tofu": {"forget_split": "${forget_split}"}},
        }
        overrides = [f"trainer={trainer}", "experiment=unlearn/tofu", f"task_name={task}", f"trainer.args.seed={seed}"]
        overrides += [f"trainer.method_args.{key}={value}" for key, value in settings.items() if key != "base"]
        write_record(path, self.folder, "train", overrides, {"trainer": trainer, "model": "Llama"}, config)
        if learning_rate != 1e-5:
            overrides.append(f"trainer.args.learning_rate={learning_rate}")
        history = [{"step": n * STEPS_PER_EPOCH, "epoch": float(n)} for n in (0, 1, 2)]
        state = {"global_step": 2 * STEPS_PER_EPOCH, "log_history": history}
        write(path / "trainer_state.json", state)
        return path

    def record_evaluation(
        self, path: Path, model: str, retain_logs: str | None = RETAIN_LOGS, split: str = "forget10"
    ) -> None:
        config = {
            "mode": "eval",
            "task_name": path.name,
            "model": {"model_args": {"pretrained_model_name_or_path": model}},
            "forget_split": split,
            "retain_logs_path": retain_logs,
            "eval": {"tofu": {"forget_split": "${forget_split}", "retain_logs_path": "${retain_logs_path}"}},
        }
        overrides = ["experiment=eval/tofu/default", f"task_name={path.name}"]
        write_record(path, self.folder, "eval", overrides, {"model": "Llama"}, config)

    def run(
        self,
        task: str,
        trainer: str = "NPO",
        seed: int = 0,
        probabilities: Sequence[float] = (0.1, 0.2, 0.3, 0.4),
        aggregates: Mapping[str, float | None] | None = None,
        **training: Any,
    ) -> Path:
        """A training and the evaluation of its model; return the latter."""
        retain = self.folder / RETAIN_LOGS
        if not retain.is_file():
            self.retain()
        self.training(task, trainer, seed, **training)
        path = self.folder / "saves" / "eval" / task
        known = {"forget_quality": 1e-3, "model_utility": 0.8, "privleak": -20.0}
        write_evaluation(path, {"forget_Q_A_Prob": probabilities}, {**known, **(aggregates or {})})
        self.record_evaluation(path, f"saves/unlearn/{task}", split=training.get("split", "forget10"))
        return path

    def relearn(self, task: str, learning_rate: float = 5e-4) -> Path:
        """A model of `training`, finetuned on forgotten answers, and its evaluation; return the latter."""
        path = self.run(f"{task}_relearned", "finetune", learning_rate=learning_rate, model=f"saves/unlearn/{task}")
        record = self.unlearn / path.name / ".hydra" / "config.yaml"
        write(record, {**json.loads(record.read_text()), "mode": "relearn"})
        return path


def study(folder: Path, trainers: Sequence[str] = ("NPO", "BalDRO_DV"), seeds: Sequence[int] = (0, 1, 2)) -> Workspace:
    """A whole study: trainings with an evaluation per epoch, final evaluations, the model before."""
    workspace = Workspace(folder)
    draw = np.random.default_rng(0)
    hardness = draw.beta(1.2, 3.0, size=40)
    before = np.clip(draw.normal(0.97, 0.02, size=40), 0, 1)
    workspace.retain()
    target = write_evaluation(
        folder / "saves/eval/target",
        {"forget_Q_A_Prob": before, "extraction_strength": before},
        {"forget_quality": 1e-9, "model_utility": 0.9, "privleak": -99.0},
    )
    workspace.record_evaluation(target, "models/target")
    for trainer in trainers:
        robust = trainer.startswith("BalDRO")
        for seed in seeds:
            noise = draw.normal(0, 0.01, size=40)
            after = {
                epoch: np.clip(before * hardness ** (epoch * (0.5 if robust else 0.35)) + noise, 1e-4, 1)
                for epoch in (1, 2)
            }
            task = f"{trainer}_{seed}"
            workspace.run(
                task,
                trainer,
                seed,
                after[2],
                {
                    "forget_quality": float(10 ** draw.normal(-2 + robust, 0.3)),
                    "model_utility": float(draw.normal(0.8, 0.01)),
                },
                **({"base": "NPO"} if robust else {}),
            )
            path = folder / "saves/eval" / task
            aggregates = {
                key: value["agg_value"]
                for key, value in json.loads((path / "TOFU_EVAL.json").read_text()).items()
                if "value_by_index" not in value
            }
            write_evaluation(path, {"forget_Q_A_Prob": after[2], "extraction_strength": after[2] ** 2}, aggregates)
            for epoch, values in {0: before, **after}.items():
                checkpoint = folder / "saves/unlearn" / task / f"checkpoint-{epoch * STEPS_PER_EPOCH}" / "evals"
                write_evaluation(checkpoint, {"forget_Q_A_Prob": values, "extraction_strength": values**2})
    return workspace


def grid(
    folder: Path,
    trainers: Sequence[str] = ("NPO", "BalDRO_DV"),
    rates: Sequence[float] = (1e-5, 2e-5, 4e-5),
    seeds: Sequence[int] = (0, 1, 2),
) -> Workspace:
    """Trainings with several learning rates: the higher the rate, the less is left and the less utility is kept."""
    workspace, draw = Workspace(folder), np.random.default_rng(0)
    for place, trainer in enumerate(trainers):
        for rate, seed in itertools.product(rates, seeds):
            task = f"{trainer}_{rate:g}_{seed}"
            base = {"base": trainer.split("_")[2] if trainer.count("_") > 1 else "NPO"}
            workspace.run(task, trainer, seed, learning_rate=rate, **(base if trainer.startswith("BalDRO") else {}))
            for epoch in (0, 1, 2):
                force = epoch * rate * 1e5 * draw.uniform(0.9, 1.1)
                left = 0.9 / (1 + (1 + 0.4 * place) * force)
                values = {"model_utility": 0.6 - 0.04 * force + draw.normal(0, 0.005), "extraction_strength": left}
                checkpoint = workspace.unlearn / task / f"checkpoint-{epoch * STEPS_PER_EPOCH}" / "evals"
                write_evaluation(checkpoint, {}, values)
                if epoch == 2:
                    write_evaluation(folder / "saves/eval" / task, {"forget_Q_A_Prob": [left] * 4}, values)
    return workspace

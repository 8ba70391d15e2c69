"""`+peft=lora` on the framework's commands: what is trained, saved, evaluated and resumed, and what is refused."""

import itertools
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ..documents import python_blocks
from .conftest import MODEL, TRAIN, Framework

pytestmark = pytest.mark.framework

TRAINERS, MERGE = ("NPO", "BalDRO_G"), ("False", "True")
# Dropout and checkpointing, which is reentrant before transformers 5; a checkpoint after each of two steps.
LORA = (
    "+peft=lora",
    "peft.r=4",
    "peft.lora_dropout=0.1",
    "experiment=unlearn/tofu",
    "+trainer.args.max_steps=2",
    "trainer.args.learning_rate=1e-2",
    "trainer.args.gradient_accumulation_steps=2",
    "trainer.args.gradient_checkpointing=true",
    "trainer.args.save_strategy=steps",
    "+trainer.args.save_steps=1",
    "trainer.args.save_only_model=false",
)
REFUSALS = """
import sys
sys.path.insert(0, "{checkout}/src")
import baldro_ext
baldro_ext.register()
from baldro_ext.open_unlearning.adapters import LoRA, check
for call in (
    lambda: check({{"r": 4, "rank": 4}}),
    lambda: check({{"r": 4}}, trainer="RMU"),
    lambda: LoRA.from_pretrained("{adapters}", peft={{"r": 4}}),
):
    try:
        call()
    except ValueError as error:
        print("refused:", error)
"""


@pytest.fixture(scope="module")
def trained(framework: Framework) -> dict[tuple[str, str], Path]:
    """The folders of what was trained, by trainer and `peft.merge`."""
    framework.train(
        "-m",
        f"trainer={','.join(TRAINERS)}",
        f"peft.merge={','.join(MERGE)}",
        "task_name=lora_${hydra:runtime.choices.trainer}_${peft.merge}",
        *LORA,
        common=tuple(override for override in TRAIN if "report_to" not in override),  # trackers write settings as JSON
    )
    return {
        (name, merge): framework.saved(f"lora_{name}_{merge}") for name, merge in itertools.product(TRAINERS, MERGE)
    }


@pytest.mark.parametrize("trainer", TRAINERS)
def test_adapters_are_trained_and_saved_alone_or_merged(
    framework: Framework, trained: dict[tuple[str, str], Path], trainer: str
) -> None:
    apart, merged = (trained[trainer, merge] for merge in MERGE)
    assert not (apart / "model.safetensors").exists()
    assert not (merged / "adapter_config.json").exists()
    for folder in (apart, merged):
        assert (folder / "checkpoint-2" / "adapter_model.safetensors").exists()

    adapters = {
        name.removeprefix("base_model.model."): tensor
        for name, tensor in load_file(apart / "adapter_model.safetensors").items()
    }
    base, whole = (load_file(folder / "model.safetensors") for folder in (framework.folder / MODEL, merged))
    assert base.keys() == whole.keys()
    layers = [name.removesuffix(".lora_A.weight") for name in adapters if ".lora_A." in name]
    assert {layer.rpartition(".")[2] for layer in layers} == {
        *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    }
    for layer in layers:
        change = 32 / 4 * adapters[f"{layer}.lora_B.weight"] @ adapters[f"{layer}.lora_A.weight"]
        assert change.abs().max() > 1e-4, "trained, although checkpointing finds no gradient at frozen embeddings"
        torch.testing.assert_close(whole[f"{layer}.weight"] - base[f"{layer}.weight"], change, atol=1e-6, rtol=0)
    for name in base.keys() - {f"{layer}.weight" for layer in layers}:
        assert torch.equal(whole[name], base[name])


@pytest.mark.generations("G2")
def test_a_resumed_run_ends_with_the_same_adapters(framework: Framework, trained: dict[tuple[str, str], Path]) -> None:
    whole = trained["BalDRO_G", "False"]
    rest = framework.saved("lora_resumed")
    shutil.copytree(whole / "checkpoint-1", rest / "checkpoint-1")
    resume = "+trainer.args.resume_from_checkpoint=true"
    framework.train("trainer=BalDRO_G", "task_name=lora_resumed", resume, *LORA)
    assert [step["step"] for step in framework.steps("lora_resumed")] == [1, 2]
    straight, resumed = (load_file(folder / "adapter_model.safetensors") for folder in (whole, rest))
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


@pytest.mark.generations("G2")
def test_the_evaluation_takes_adapters_and_merged_models_alike(
    framework: Framework, trained: dict[tuple[str, str], Path]
) -> None:
    models = [trained["NPO", merge].relative_to(framework.folder) for merge in MERGE]
    framework.evaluate(
        Path(",".join(map(str, [*models, MODEL]))),
        "-m",
        "experiment=eval/tofu/default",
        "task_name=lora_${hydra:job.num}",
        "eval/tofu_metrics@eval.tofu.tofu_metrics=[forget_Q_A_Prob]",
    )
    apart, merged, before = (
        json.loads((framework.folder / f"saves/eval/lora_{number}/TOFU_SUMMARY.json").read_text())["forget_Q_A_Prob"]
        for number in range(3)
    )
    assert apart == pytest.approx(merged, rel=1e-5)
    assert apart != pytest.approx(before, rel=1e-3)


@pytest.mark.generations("G2")
def test_the_document_merges_saved_adapters(framework: Framework, trained: dict[tuple[str, str], Path]) -> None:
    ((_, program),) = [block for block in python_blocks() if block[0] == "adapters.md"]
    apart, merged = (trained["NPO", merge] for merge in MERGE)
    framework.run("-c", re.sub(r'(adapters = )".*"', rf'\1"{apart.relative_to(framework.folder)}"', program))
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (merged, framework.folder / "merged"))
    torch.testing.assert_close(ours, theirs)


def test_qlora_composes_and_names_its_run(framework: Framework) -> None:
    train = str(framework.checkout / "src" / "train.py")
    command = ("trainer=NPO", "experiment=unlearn/tofu", "+peft=qlora", "peft.r=8")
    composed = framework.run(train, *command, "--cfg", "job", "--resolve")
    assert composed.count("bnb_4bit_quant_type: nf4") == 2, "in peft, and where the handler gets it"
    assert "model_handler: LoRA" in composed
    assert "task_name: tofu_forget10_Llama-3.2-1B-Instruct_NPO_qlora_peft.r-8" in composed
    if not torch.cuda.is_available():
        output = framework.run(train, *command, ok=False)
        assert "quantization (+peft=qlora) needs a CUDA GPU" in output.splitlines()[-1]
        assert "Traceback" not in output


def test_what_cannot_work_is_refused(framework: Framework, trained: dict[tuple[str, str], Path]) -> None:
    adapters = trained["NPO", "False"]
    output = framework.run("-c", REFUSALS.format(checkout=framework.checkout, adapters=adapters))
    assert [line.split()[1] for line in output.splitlines() if line.startswith("refused:")] == [
        "rank",
        "RMU",
        str(adapters),
    ]

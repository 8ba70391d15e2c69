"""The names that experiments give to runs, and the files they look for."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from baldro_ext.open_unlearning import resolvers


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    """A config folder with the groups that a run's name is made of."""
    (tmp_path / "main.yaml").write_text(
        "defaults: [model: small, trainer: Mine, experiment: null, _self_]\n"
        "task_name: ${baldro.run_name:tofu,${forget_split}}\nforget_split: forget10\nretain_logs_path: null\n"
    )
    for group, option, text in (
        ("model", "small", "model_args: {path: null}\n"),
        ("trainer", "Mine", "args: {seed: 0, report_to: none, max_steps: 1}\nmethod_args: {regex: null}\n"),
        ("experiment", "x", ""),
        ("eval/balance", "tofu", ""),
        ("sweep", "jobs", ""),
        ("peft", "lora", "r: 16\n"),
    ):
        (tmp_path / group).mkdir(parents=True)
        (tmp_path / group / f"{option}.yaml").write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "tofu_forget10_small_Mine"),
        (["forget_split=forget05"], "tofu_forget05_small_Mine"),
        (["experiment=x", "retain_logs_path=a/b.json", "trainer.args.report_to=wandb"], "tofu_forget10_small_Mine"),
        (["+eval/balance=tofu", "+sweep=jobs", "+grid.beta=1"], "tofu_forget10_small_Mine"),
        (["trainer.args.seed=1", "+trainer.args.lr=1e-5"], "tofu_forget10_small_Mine_seed-1_lr-1e-5"),
        (["+peft=lora", "peft.r=4"], "tofu_forget10_small_Mine_lora_peft.r-4"),
        (["model.model_args.path=here"], "tofu_forget10_small_Mine_path-here"),
        (["~trainer.args.max_steps"], "tofu_forget10_small_Mine_no-trainer.args.max_steps"),
    ],
)
def test_runs_that_differ_have_names_that_differ(configs: Path, overrides: list[str], name: str) -> None:
    assert name_of(configs, overrides) == name


@pytest.mark.parametrize(
    "change",
    [
        *("resume_from_checkpoint=true", "resume_from_checkpoint=saves/x/checkpoint-5", "save_steps=10"),
        *("eval_strategy=no", "report_to=wandb", "run_name=mine", "push_to_hub=true", "dataloader_num_workers=2"),
    ],
)
def test_what_does_not_change_the_model_is_no_part_of_its_name(configs: Path, change: str) -> None:
    """So a resumed run finds the checkpoints of the run that it resumes."""
    once = ["trainer.args.seed=1"]
    assert name_of(configs, [*once, f"++trainer.args.{change}"]) == name_of(configs, once)


VALUES = st.one_of(
    st.integers(), st.floats(allow_nan=False), st.text(st.characters(codec="ascii", categories=["L", "N"]))
)


@given(st.dictionaries(st.sampled_from(["trainer.args.seed", "trainer.method_args.dv_beta", "data.x.y"]), VALUES))
def test_a_name_needs_no_quotes(overrides: dict[str, Any]) -> None:
    name = resolvers.chosen_name("tofu", "BalDRO_DV", overrides=[f"{key}={value}" for key, value in overrides.items()])
    assert shlex.quote(name) == name
    assert OverridesParser.create().parse_override(f"model.path=saves/{name}").value() == f"saves/{name}"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("model.model_args.path=a/b", "model.model_args.path=a-b"),
        ("model.model_args.path='a b'", "model.model_args.path=a-b"),
        ("+data.forget.max_length=64", "+data.retain.max_length=64"),
        ("+retain_split=retain90", "+retain_split=retain95"),
    ],
)
def test_names_do_not_collide(configs: Path, one: str, other: str) -> None:
    assert name_of(configs, [one]) != name_of(configs, [other])


def test_long_names_are_cut_and_stay_distinct(configs: Path) -> None:
    first, second = (name_of(configs, [f"trainer.method_args.regex={'x' * 150}{end}"]) for end in "ab")
    assert first != second
    assert first[:120] == second[:120]
    assert len(first) < 140


def test_without_a_running_application_the_trainer_tells_runs_apart(configs: Path) -> None:
    resolvers.register()
    with initialize_config_dir(str(configs), version_base=None):
        config = compose("main", ["+trainer.handler=BalDRO_DV", "+trainer.method_args.base=NPO"])
    assert config.task_name == "tofu_forget10_BalDRO_DV_NPO"
    assert resolvers.retain_logs("tofu", "retain90") is None


def test_retain_logs_are_found_where_the_framework_puts_them(
    configs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    key = "retain_logs_path=${baldro.retain_logs:tofu,retain90}"
    assert select(configs, [key], "retain_logs_path") is None
    file = tmp_path / "saves/eval/tofu_small_retain90/TOFU_EVAL.json"
    file.parent.mkdir(parents=True)
    file.touch()
    assert select(configs, [key], "retain_logs_path") == "saves/eval/tofu_small_retain90/TOFU_EVAL.json"


def name_of(configs: Path, overrides: list[str]) -> str:
    name: str = select(configs, overrides, "task_name")
    return name


def select(configs: Path, overrides: list[str], key: str) -> Any:
    """Resolve a key as a running application would."""
    resolvers.register()
    with initialize_config_dir(str(configs), version_base=None):
        config = compose("main", overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    try:
        return OmegaConf.select(config, key)
    finally:
        HydraConfig.instance().cfg = None

"""The names that experiments give to runs, and the files they look for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from baldro_ext.hosts import resolvers


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
    ):
        (tmp_path / group).mkdir()
        (tmp_path / group / f"{option}.yaml").write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "tofu_forget10_small_Mine"),
        (["forget_split=forget05"], "tofu_forget05_small_Mine"),
        (["experiment=x", "retain_logs_path=a/b.json", "trainer.args.report_to=wandb"], "tofu_forget10_small_Mine"),
        (["trainer.args.seed=1", "+trainer.args.lr=1e-5"], "tofu_forget10_small_Mine_seed=1_lr=1e-5"),
        (["model.model_args.path=saves/a b"], "tofu_forget10_small_Mine_path=saves-a-b"),
    ],
)
def test_runs_that_differ_have_names_that_differ(configs: Path, overrides: list[str], name: str) -> None:
    assert name_of(configs, overrides) == name


def test_long_names_are_cut_and_stay_distinct(configs: Path) -> None:
    first, second = (name_of(configs, [f"trainer.method_args.regex={'x' * 150}{end}"]) for end in "ab")
    assert first != second
    assert first[:120] == second[:120]
    assert len(first) < 140


def test_without_hydra_the_parts_stand_alone() -> None:
    assert resolvers.run_name("tofu", "forget10") == "tofu_forget10"


def test_files_that_do_not_exist_are_null(tmp_path: Path) -> None:
    (tmp_path / "there.json").touch()
    assert resolvers.existing(str(tmp_path / "there.json")) == str(tmp_path / "there.json")
    assert resolvers.existing(str(tmp_path / "gone.json")) is None


def name_of(configs: Path, overrides: list[str]) -> str:
    resolvers.register()
    with initialize_config_dir(str(configs), version_base=None):
        config = compose("main", overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    try:
        name: str = OmegaConf.select(config, "task_name")
        return name
    finally:
        HydraConfig.instance().cfg = None

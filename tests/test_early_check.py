"""Which choices on the framework's command line are refused before Hydra composes the configuration."""

from pathlib import Path

import pytest

from baldro_ext.open_unlearning.early_check import refuse_unknown_choices, refuse_unknown_settings

CONFIGS = [Path(__file__).parents[1] / "configs", Path("/nowhere")]


@pytest.mark.parametrize(
    ("word", "wrong", "meant"),
    [
        ("trainer=BaLDRO_DV", "trainer=BaLDRO_DV", "BalDRO_DV"),
        ("+experiment=unlearn/tofo", "experiment=unlearn/tofo", "unlearn/tofu"),
        ("trainer=BalDRO_G,BalDRO_V", "trainer=BalDRO_V", "BalDRO_DV"),
    ],
)
def test_an_unknown_choice_is_answered_with_the_closest(word: str, wrong: str, meant: str) -> None:
    with pytest.raises(SystemExit, match=f"{wrong} is unknown.*did you mean {meant}"):
        refuse_unknown_choices(["mode=unlearn", word], CONFIGS)


@pytest.mark.parametrize(
    "words",
    [
        [
            "trainer=BalDRO_DV_radius",
            "+experiment=unlearn/tofu",
            "release=null",
            "task_name=trainer",
            "trainer.args.seed=x",
        ],
        ["hydra/launcher=joblib", "eval/tofu_metrics@metrics=x", "trainer='a b'", "experiment=no/such/depth"],
        ["trainer=mine", "--config-dir=elsewhere"],
        ["trainer=mine", "hydra.searchpath=[file://elsewhere]"],
        ["-cn", "mine", "trainer=mine"],
        ["trainer=BalDRO_DV.yaml"],
    ],
)
def test_what_hydra_may_know_is_left_to_it(words: list[str]) -> None:
    refuse_unknown_choices(words, CONFIGS)


def test_a_main_configuration_may_know_further_places(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text("hydra: {searchpath: [file://elsewhere]}")
    refuse_unknown_choices(["trainer=mine"], [*CONFIGS, tmp_path])


@pytest.mark.parametrize("word", ["trainer.method_args.dv_bta=2", "+trainer.method_args.dv_bta=1,2"])
def test_an_unknown_setting_of_our_trainers_is_answered_with_the_closest(word: str) -> None:
    with pytest.raises(SystemExit, match=r"trainer\.method_args\.dv_bta .*did you mean dv_beta\?"):
        refuse_unknown_settings(["trainer=BalDRO_G,BalDRO_DV", word], CONFIGS)


@pytest.mark.parametrize(
    "words",
    [
        ["trainer=PDU", "trainer.method_args.retain_loss_eps=0"],
        ["trainer=BalDRO_DV,NPO", "trainer.method_args.x=0"],
        ["trainer.method_args.x=0"],
        ["trainer=BalDRO_DV_RMU", "trainer.method_args.trainable_params_regex=[a]", "trainer.method_args.dv_beta=1"],
    ],
)
def test_settings_that_a_trainer_may_have_are_left_to_it(words: list[str]) -> None:
    refuse_unknown_settings(words, CONFIGS)

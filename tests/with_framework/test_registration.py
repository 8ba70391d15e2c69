"""How the extension enters: by plugin, by `register()`, from a wheel; and where it must keep out."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from .conftest import MODEL, Framework

pytestmark = pytest.mark.framework
ROOT = Path(__file__).parents[2]

PROGRAM = """
import sys
sys.path.insert(0, "{checkout}/src")
import baldro_ext
baldro_ext.register()
baldro_ext.register()
from hydra import compose, initialize_config_dir

with initialize_config_dir("{checkout}/configs", version_base=None):
    def build(*overrides):
        cfg = compose("train", ["trainer=BalDRO_DV", "experiment=unlearn/tofu", "+hardware=cpu",
            "model.model_args.pretrained_model_name_or_path={model}",
            "model.tokenizer_args.pretrained_model_name_or_path={model}",
            "trainer.args.logging_dir=logs", "trainer.args.report_to=none",
            "trainer.args.eval_strategy=no", "trainer.args.eval_on_start=false", *overrides])
        from data import get_collators, get_data
        from model import get_model
        from trainer import load_trainer
        model, tokenizer = get_model(cfg.model)
        data = get_data(cfg.data, mode=cfg.mode, tokenizer=tokenizer, template_args=cfg.model.template_args)
        name = "tokenizer" if "{generation}" == "G1" else "processing_class"
        return load_trainer(cfg.trainer, model=model, train_dataset=data["train"],
            data_collator=get_collators(cfg.collator, tokenizer=tokenizer), template_args=cfg.model.template_args,
            **{{name: tokenizer}})[0]

    trainer = build()
    assert trainer.args.output_dir == "./saves/unlearn/tofu_forget10_BalDRO_DV_NPO", trainer.args.output_dir
    assert type(trainer).__name__ == "BalDRO_DV", type(trainer)
    for overrides in {bad}:
        try:
            build(*overrides)
        except ValueError as error:
            print("refused:", error)
        else:
            sys.exit(f"{{overrides}} was accepted")

from data.unlearn import ForgetRetainDataset
nothing = ForgetRetainDataset(forget=[], retain=trainer.train_dataset.retain, anchor="retain")
try:
    type(trainer)(model=trainer.model, args=trainer.args, train_dataset=nothing, dv_beta=2.0)
except ValueError as error:
    print("refused:", error)
"""
BAD = {
    ("trainer.method_args.base=NP0",): "base='NP0' is not a known forget loss: did you mean NPO? There are ",
    ("trainer.method_args.dv_beta=2", "trainer.method_args.dv_radius=0.5"): "exactly one of dv_beta and dv_radius must be set, and both are",
    ("trainer.method_args.dv_beta=0",): "dv_beta=0 has no worst case",
    ("trainer=BalDRO_G", "trainer.method_args.top_fraction=1.5"): "top_fraction=1.5 is not a share of the samples",
    ("trainer.method_args.retain_loss_type=KLD",): "retain_loss_type='KLD' is not supported: use NLL or KL or EMBED_DIFF",
    ("+trainer.method_args.hardnes=nll",): "hardnes is not a setting of BalDRO_DV with base=NPO",
    ("trainer.args.per_device_train_batch_size=1",): "per_device_train_batch_size=1 with scope=batch leaves BalDRO_DV one sample",
}  # fmt: skip


def test_register_serves_programs_that_compose_themselves(framework: Framework) -> None:
    program = PROGRAM.format(checkout=framework.checkout, generation=framework.name, model=MODEL, bad=list(BAD))
    output = framework.run("-c", program)
    for message in (*BAD.values(), "train_dataset has no forget samples"):
        assert message in output


def test_register_after_hydra_says_what_to_do(framework: Framework) -> None:
    program = (
        f"import sys; sys.path.insert(0, '{framework.checkout}/src')\n"
        "import baldro_ext, hydra\n"
        "hydra.initialize(version_base=None)\n"
        "baldro_ext.register()"
    )
    output = framework.run("-c", program, ok=False)
    assert "call baldro_ext.register() before hydra.initialize(...)" in output


def test_register_without_the_framework_says_what_to_do(framework: Framework, tmp_path: Path) -> None:
    program = "import baldro_ext; baldro_ext.register()"
    assert "open-unlearning is not on sys.path (no package 'trainer' can be imported)" in framework.run(
        "-c", program, ok=False
    )
    (tmp_path / "trainer.py").touch()
    assert f"the package 'trainer' at {tmp_path / 'trainer.py'} is another one" in framework.run(
        "-c", program, env={"PYTHONPATH": str(tmp_path)}, ok=False
    )


@pytest.mark.generations("G2")
@pytest.mark.parametrize("decoy", [None, "", "TRAINER_REGISTRY = {}"], ids=["no trainer", "a trainer", "a registry"])
def test_the_plugin_keeps_out_of_other_applications(framework: Framework, tmp_path: Path, decoy: str | None) -> None:
    (tmp_path / "app.py").write_text(
        textwrap.dedent(f"""
        import sys
        import hydra
        {"" if decoy is None else "import trainer"}

        @hydra.main(version_base=None, config_path=None)
        def main(cfg):
            assert "torch" not in sys.modules
            assert "baldro_ext.trainer" not in sys.modules

        main()
        """)
    )
    if decoy is not None:
        (tmp_path / "trainer.py").write_text(decoy)
    assert "baldro" not in framework.run(str(tmp_path / "app.py"), "--info", "searchpath")
    framework.run(str(tmp_path / "app.py"))


@pytest.mark.generations("G2")
def test_the_wheel_brings_every_configuration(framework: Framework, tmp_path: Path) -> None:
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", str(ROOT)]
    subprocess.run([*wheel, "--wheel-dir", tmp_path], check=True)
    (built,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, built], check=True
    )
    shipped = {path.relative_to(site / "baldro_ext" / "configs") for path in site.glob("baldro_ext/configs/**/*.yaml")}
    assert shipped == {path.relative_to(ROOT / "configs") for path in (ROOT / "configs").rglob("*.yaml")}
    proposed = []
    for root in (site, ROOT):
        folder = root / "baldro_ext" / "tools" / "upstream" / "pull-request"
        proposed.append({path.relative_to(folder) for path in folder.rglob("*") if path.suffix not in ("", ".pyc")})
    assert proposed[0] == proposed[1]

    command = [str(framework.checkout / "src" / "train.py"), "trainer=BalDRO_G_SimNPO", "experiment=unlearn/muse"]
    environment = {"PYTHONPATH": str(site)}
    assert f"file://{site / 'baldro_ext' / 'configs'}" in framework.run(
        *command, "--info", "searchpath", env=environment
    )
    composed = framework.run(*command, "--cfg", "job", env=environment)
    assert "handler: BalDRO_G" in composed
    assert "base: SimNPO" in composed


@pytest.mark.parametrize("benchmark", ["tofu", "muse", "wmdp"])
def test_experiments_compose_without_any_other_override(framework: Framework, benchmark: str) -> None:
    train = str(framework.checkout / "src" / "train.py")
    composed = framework.run(train, "trainer=BalDRO_DV", f"experiment=unlearn/{benchmark}", "--cfg", "job", "--resolve")
    assert "mode: unlearn" in composed
    assert f"task_name: {benchmark}_" in composed
    assert "remove_unused_columns: false" in composed
    assert "\ndata:\n" in composed


@pytest.mark.generations("G2")
@pytest.mark.parametrize(
    ("trainer", "override", "named"),
    [
        ("BalDRO_DV", "+trainer.method_args.hardnes=nll", "hardnes"),
        ("BalDRO_DV", "trainer.args.per_device_train_batch_size=1", "scope=dataset"),
        ("BaLDRO_DV", "seed=0", "did you mean BalDRO_DV?"),
    ],
)
def test_what_cannot_work_ends_the_run_before_it_begins(
    framework: Framework, trainer: str, override: str, named: str
) -> None:
    command = (f"trainer={trainer}", "experiment=unlearn/tofu", "task_name=early", override)
    output = framework.run(str(framework.checkout / "src" / "train.py"), *command, ok=False)
    assert named in output.splitlines()[-1]
    assert "Traceback" not in output
    assert not framework.saved("early").exists(), "neither a folder nor a model, whose name does not exist here"

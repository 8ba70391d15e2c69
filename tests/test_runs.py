"""Commands that run once, side by side, and one at a time after each other.

The checkout is a small one whose train.py and eval.py write what the framework's do, at once, so that what is
tested here is the order of things; tests/with_framework/test_study.py runs the real ones.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from baldro_ext.errors import RefusedError, UsageError
from baldro_ext.tools.cli import app
from baldro_ext.tools.commands import Command, RunError, Runner
from baldro_ext.tools.run import Method, Study
from baldro_ext.tools.run.execute import execute, lines

from .kill_runs import alive, trial

ROOT = Path(__file__).parents[1]
SCRIPT = """
import json, os, sys, time
from pathlib import Path
given = dict(override.split("=", 1) for override in sys.argv[1:])
mode = given.get("experiment", "eval").split("/")[0]
assert (mode == "eval") == (Path(sys.argv[0]).stem == "eval")
folder = Path("saves", mode, given["task_name"])
folder.mkdir(parents=True, exist_ok=True)
with open("calls", "a") as calls:
    print(mode, given["task_name"], os.environ.get("CUDA_VISIBLE_DEVICES", ""), file=calls)
if mode == "eval":
    (folder / ("LMEval_SUMMARY.json" if "eval" in given else "TOFU_SUMMARY.json")).write_text("{}")
    (folder / "TOFU_EVAL.json").write_text("{}")
time.sleep(float(given.get("trainer.args.sleep", 0)))
if error := given.get("trainer.args.fails") or given.get("eval.lm_eval.fails"):
    print("# a line before\\n" * 9 + error + ": as asked for")
    print("and more below", end="\\r")
    sys.exit(3)
if mode != "eval":
    (folder / ".hydra").mkdir(exist_ok=True)
    (folder / ".hydra" / "config.yaml").write_text("trainer: {handler: " + given.get("trainer", "finetune") + "}")
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": [{"loss": 1.0}, {"train_runtime": 12.5}]}))
    (folder / "training_args.bin").touch()
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    place = tmp_path / "checkout"
    (place / "src").mkdir(parents=True)
    for config in (
        "trainer/NPO",
        "eval/tofu_metrics/forget_Q_A_Prob",
        "eval/tofu_metrics/model_utility",
        "model/Llama-3.2-1B-Instruct",
    ):
        file = place / "configs" / f"{config}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    for script in ("train", "eval"):
        (place / "src" / f"{script}.py").write_text(SCRIPT)
    return place


@pytest.fixture
def runner(tmp_path: Path, checkout: Path) -> Runner:
    return Runner(tmp_path / "work", checkout)


def study(*methods: str, **settings: object) -> Study:
    return Study(tuple(Method.parse(method) for method in methods), **settings)  # type: ignore[arg-type]


def calls(runner: Runner) -> list[str]:
    file = runner.folder / "calls"
    return [line.strip() for line in file.read_text().splitlines()] if file.exists() else []


def run(runner: Runner, what: Study, overwrite: bool = False, jobs: int = 1) -> tuple[list[str], list[str]]:
    said: list[str] = []
    failures = execute(what, Runner(runner.folder, runner.checkout, [{}] * jobs), said.append, overwrite)
    logs = [line.split("log: ")[1] for line in said if "log: " in line]
    assert all(Path(log).is_file() for log in logs)
    return failures, [line for line in said if line.startswith("[")]


def test_each_command_runs_once_and_every_one_is_counted(runner: Runner) -> None:
    failures, said = run(runner, study("NPO", "BalDRO_G", seeds=(0, 1)), jobs=2)
    assert failures == []
    expected = {f"{mode} {m}_seed{s}" for mode in ("unlearn", "eval") for m in ("NPO", "BalDRO_G") for s in (0, 1)}
    assert sorted(calls(runner)) == sorted(expected)
    assert [line.split("]")[0] for line in said] == [f"[{i}/8" for i in range(1, 9)]
    again, said = run(runner, study("NPO", "BalDRO_G", seeds=(0, 1)))
    assert again == []
    assert len(calls(runner)) == 8
    assert all(line.endswith("done before") for line in said)


def test_more_seeds_and_methods_later_run_only_what_is_new(runner: Runner) -> None:
    run(runner, study("NPO"))
    run(runner, study("NPO", "BalDRO_G", seeds=(0, 1)))
    assert len(calls(runner)) == 8
    assert calls(runner)[2:4] == ["unlearn BalDRO_G_seed0", "eval BalDRO_G_seed0"]


def test_what_was_done_before_is_not_left(runner: Runner) -> None:
    run(runner, study("NPO"))
    _, said = run(runner, study("BalDRO_G", "NPO"))
    assert [line.partition("; ")[2].partition(" left")[0] for line in said] == ["", "", "1", ""]


def test_a_grid_of_learning_rates_goes_on_with_more_of_them(
    runner: Runner, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    place = ["--folder", str(runner.folder), "--checkout", str(checkout), "--jobs", "16"]
    for rates, labels in (("1e-4", ["lr1e-4"]), ("1e-4,2e-4", ["lr1e-4", "lr2e-4"])):
        done = CliRunner().invoke(app, ["run", "NPO", "BalDRO_G", "--learning-rates", rates, "--seeds", "0,1", *place])
        assert done.exit_code == 0, done.output
        names = [
            f"{method}_{label}_seed{seed}" for method in ("NPO", "BalDRO_G") for label in labels for seed in (0, 1)
        ]
        assert sorted(calls(runner)) == sorted(f"{mode} {name} 7" for name in names for mode in ("unlearn", "eval"))
        assert ("--levels auto" in done.stdout) == (len(labels) > 1)
    for metric in ("forget_Q_A_Prob", "model_utility"):  # it needs both a utility and what is left
        again = ["--learning-rates", "1e-4,2e-4", "--metrics", metric, "--overwrite", *place]
        assert "--levels" not in CliRunner().invoke(app, ["run", "NPO", *again]).stdout


@pytest.mark.parametrize("error", ["ValueError", "hydra.errors.MissingConfigException", "Error"])  # the last: ours
def test_a_failure_is_reported_with_its_reason_and_loses_nothing_else(runner: Runner, error: str) -> None:
    broken = study(f"bad=NPO:trainer.args.fails={error}", "NPO")
    failures, said = run(runner, broken)
    (failure,) = failures
    log = runner.log(one(broken, 0))
    assert failure.startswith(f"cannot unlearn bad_seed0 (exit code 3): the whole output is in {log}")
    assert failure.splitlines()[1].strip() == f"{error}: as asked for"
    assert "as asked for" in log.read_text()
    assert "[2/4] evaluate bad_seed0: left out, because there is no model" in said
    assert calls(runner) == ["unlearn bad_seed0", "unlearn NPO_seed0", "eval NPO_seed0"]
    run(runner, broken)
    assert calls(runner)[3:] == ["unlearn bad_seed0"]


def one(what: Study, index: int) -> Command:
    training = what.runs[index].training
    assert training is not None
    return training


def test_results_of_another_command_are_refused_until_told_to_replace_them(runner: Runner) -> None:
    run(runner, study("NPO"))
    other = study("NPO", common=("trainer.args.learning_rate=1",))
    with pytest.raises(RefusedError, match=r"saves/unlearn/NPO_seed0/training_args\.bin") as error:
        run(runner, other)
    assert error.value.exit_code == 4
    assert len(calls(runner)) == 2
    run(runner, other, overwrite=True)
    assert calls(runner)[2:] == ["unlearn NPO_seed0", "eval NPO_seed0"]


@pytest.mark.parametrize(
    "mine",
    [
        "saves/unlearn/NPO_seed0/training_args.bin",
        "saves/unlearn/NPO_seed0/model.safetensors",
        "saves/eval/NPO_seed0/TOFU_EVAL.json",
        "saves/eval/NPO_seed0/study.json",
        "logs/unlearn_NPO_seed0.log",
        "logs/evaluate_NPO_seed0.json",
    ],
)
def test_a_file_of_ones_own_is_not_replaced_and_nothing_is_written_beside_it(runner: Runner, mine: str) -> None:
    file = runner.folder / mine
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    with pytest.raises(RefusedError, match=mine if "logs" in mine else "saves/"):
        run(runner, study("NPO"))
    assert not calls(runner)
    assert file.read_text() == "mine"
    assert sorted(os.listdir(file.parent)) == ([file.name] if "saves" in mine else [".baldro-run.lock", file.name])
    run(runner, study("NPO"), overwrite=True)
    assert len(calls(runner)) == 2


def test_an_evaluation_that_ended_early_runs_again_though_its_result_is_there(runner: Runner) -> None:
    broken = study("NPO", evaluation=("trainer.args.fails=ValueError",))
    run(runner, broken)
    assert (runner.folder / "saves/eval/NPO_seed0/TOFU_EVAL.json").exists()
    run(runner, broken)
    assert calls(runner)[2:] == ["eval NPO_seed0"]


def test_a_model_trained_again_is_evaluated_again(runner: Runner) -> None:
    run(runner, study("NPO"))
    runner.forget(one(study("NPO"), 0))
    (evaluation,) = study("NPO").runs[0].evaluations
    evaluated = runner.folder / evaluation.results[1]
    evaluated.write_text("of the model before")
    run(runner, study("NPO", lm_eval=("arc_easy",)))
    assert calls(runner)[2:] == ["unlearn NPO_seed0", "eval NPO_seed0", "eval NPO_seed0"]
    assert evaluated.read_text() == "{}"


def test_tasks_that_are_added_and_fail_lose_nothing_of_what_is_there(runner: Runner) -> None:
    run(runner, study("NPO"))
    record = runner.folder / "saves/eval/NPO_seed0/study.json"
    before = json.loads(record.read_text())
    run(runner, study("NPO", lm_eval=("mmlu",), evaluation=("eval.lm_eval.fails=x",)))
    assert json.loads(record.read_text()) == before
    run(runner, study("NPO", lm_eval=("mmlu",)), overwrite=True)
    assert calls(runner)[3:] == ["eval NPO_seed0"]
    assert json.loads(record.read_text())["lm_eval"] == ["mmlu"]


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        ({"common": ("trainer.args.learning_rate=1",)}, "another label"),
        ({"evaluation": ("eval.x=1",)}, "--retain-logs instead of"),
    ],
)
def test_what_is_in_the_way_has_a_remedy_that_helps(runner: Runner, change: dict[str, object], advice: str) -> None:
    there = {"model": "models/target", "retain_model": "models/retain90"}
    run(runner, study("NPO", **there))
    with pytest.raises(RefusedError, match="replace them by --overwrite") as error:
        run(runner, study("NPO", **there, **change))
    assert [it in str(error.value) for it in ("another label", "--retain-logs instead of")] == [
        it == advice for it in ("another label", "--retain-logs instead of")
    ]


def test_a_model_deleted_after_its_evaluation_is_not_trained_again(runner: Runner) -> None:
    run(runner, study("NPO"))
    record = (runner.folder / "saves/eval/NPO_seed0/study.json").read_text()
    shutil.rmtree(runner.folder / "saves/unlearn")
    run(runner, study("NPO"))
    assert len(calls(runner)) == 2
    assert (runner.folder / "saves/eval/NPO_seed0/study.json").read_text() == record


def test_each_model_is_relearned_after_its_training_and_recorded_as_a_method_of_its_own(runner: Runner) -> None:
    what = study("NPO", "BalDRO_G", relearn=1e-5)
    run(runner, study("NPO", relearn=1e-5))
    steps = ["unlearn NPO_seed0", "eval NPO_seed0", "relearn NPO_relearned_seed0", "eval NPO_relearned_seed0"]
    assert calls(runner) == steps
    record = json.loads((runner.folder / "saves/eval/NPO_relearned_seed0/study.json").read_text())
    assert (record["label"], record["trainer"], record["seed"]) == ("NPO_relearned", "NPO", 0)
    assert record["settings"] == {"handler": "NPO"}, "those of the unlearning"
    assert (record["relearn"], record["folder"]) == (1e-5, "saves/relearn/NPO_relearned_seed0")
    shutil.rmtree(runner.folder / "saves/unlearn")
    shutil.rmtree(runner.folder / "saves/relearn")
    _, said = run(runner, what)
    assert len(said) == 8
    assert calls(runner)[4:] == [step.replace("NPO", "BalDRO_G") for step in steps]


def test_a_model_that_is_still_to_be_relearned_is_trained_again_if_it_was_deleted(runner: Runner) -> None:
    what = study("NPO", relearn=1e-5)
    run(runner, what)
    relearning = what.runs[0].relearning
    assert relearning is not None
    runner.forget(relearning.commands[0])
    runner.forget(relearning.commands[1])
    shutil.rmtree(runner.folder / "saves/unlearn")
    assert len(lines(what, runner)) == 4
    run(runner, what)
    assert calls(runner)[4:] == calls(runner)[:4]
    runner.forget(one(what, 0))
    assert len(lines(what, runner)) == 4, "what is made of a model that is trained again, too"


def test_what_cannot_be_trained_is_not_relearned(runner: Runner) -> None:
    failures, said = run(runner, study("bad=NPO:trainer.args.fails=ValueError", relearn=1e-5))
    assert len(failures) == 1
    assert [line.partition(": ")[2] for line in said[1:]] == ["left out, because there is no model"] * 3
    assert calls(runner) == ["unlearn bad_seed0"]
    assert not (runner.folder / "saves/eval/bad_relearned_seed0").exists()


def test_the_retain_model_is_evaluated_once_before_all(runner: Runner) -> None:
    with_retain = study("NPO", retain_model="models/retain90")
    run(runner, with_retain)
    assert calls(runner) == ["eval retain90_forget10", "unlearn NPO_seed0", "eval NPO_seed0"]
    run(runner, with_retain)
    assert len(calls(runner)) == 3


def test_a_retain_model_that_cannot_be_evaluated_stops_the_study(runner: Runner) -> None:
    with pytest.raises(RunError, match="cannot evaluate retain90_forget10"):
        run(runner, study("NPO", retain_model="models/retain90", evaluation=("trainer.args.fails=ValueError",)))
    assert calls(runner) == ["eval retain90_forget10"]


def test_a_retain_evaluation_of_ones_own_is_kept_and_used_by_its_name(runner: Runner) -> None:
    mine = runner.folder / "saves/eval/retain90_forget10/TOFU_EVAL.json"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(RefusedError, match="--retain-logs"):
        run(runner, study("NPO", retain_model="models/retain90"))
    run(runner, study("NPO", retain_logs="saves/eval/retain90_forget10/TOFU_EVAL.json"))
    assert mine.read_text() == "mine"
    assert calls(runner) == ["unlearn NPO_seed0", "eval NPO_seed0"]


def test_the_record_says_how_a_result_was_made(runner: Runner) -> None:
    what = study("mine=NPO:trainer.args.x=1", seeds=(3,), common=("trainer.args.y=2",), split="forget05")
    run(runner, what)
    record = json.loads((runner.folder / "saves/eval/mine_seed3/study.json").read_text())
    assert (record["schema"], record["label"], record["trainer"], record["seed"]) == (1, "mine", "NPO", 3)
    assert (record["overrides"], record["common"]) == (["trainer.args.x=1"], ["trainer.args.y=2"])
    assert (record["benchmark"], record["split"], record["retain_logs"]) == ("TOFU", "forget05", None)
    assert record["training_seconds"] == 12.5
    assert list(record["commands"]) == ["unlearn mine_seed3", "evaluate mine_seed3"]
    assert record["commands"]["unlearn mine_seed3"] == one(what, 0).line(runner.checkout)


def test_seconds_that_contain_evaluations_are_not_given(runner: Runner) -> None:
    run(runner, study("NPO", every_epoch=("forget_Q_A_Prob",)))
    record = json.loads((runner.folder / "saves/eval/NPO_seed0/study.json").read_text())
    assert record["training_seconds"] is None


def test_an_unknown_trainer_is_answered_with_the_known_ones(runner: Runner) -> None:
    with pytest.raises(UsageError, match=r"'BalDRO_DW' is unknown: did you mean BalDRO_DV\?.* NPO"):
        run(runner, study("BalDRO_DW"))


def test_a_second_call_at_the_same_time_is_refused(runner: Runner) -> None:
    slow = study("NPO:trainer.args.sleep=2")
    first = threading.Thread(target=run, args=(runner, slow))
    first.start()
    while not calls(runner):
        time.sleep(0.02)
    with pytest.raises(RefusedError, match="is at work in"):
        run(runner, slow)
    runner.stop()
    first.join()


def test_the_dry_run_prints_what_is_left_as_one_would_type_it(runner: Runner, checkout: Path) -> None:
    run(runner, study("NPO"))
    what = study("NPO", "BalDRO_G:trainer.args.names=[a,b]")
    place = ["--folder", str(runner.folder), "--checkout", str(checkout), "--framework-accumulation"]
    printed = CliRunner().invoke(app, ["run", "NPO", "BalDRO_G:trainer.args.names=[a,b]", "--dry-run", *place])
    assert printed.exit_code == 0
    assert printed.stdout.splitlines() == [f"cd {runner.folder}", *lines(what, runner)]
    assert len(lines(what, runner)) == 2
    assert "'trainer.args.names=[a,b]'" in lines(what, runner)[0]
    assert len(calls(runner)) == 2


def test_the_command_ends_with_1_and_a_table_of_failures(runner: Runner, checkout: Path) -> None:
    options = ["--folder", str(runner.folder), "--checkout", str(checkout), "--devices", "4,5"]
    result = CliRunner().invoke(app, ["run", "bad=NPO:trainer.args.fails=ValueError", "NPO", *options])
    assert result.exit_code == 1
    assert "1 failed; the same command tries them again" in result.stderr
    assert f"{runner.folder}/logs/unlearn_bad_seed0.log" in result.stderr
    assert "ValueError: as asked for" in result.stderr
    assert {line.split()[-1] for line in calls(runner)} == {"4", "5"}
    result = CliRunner().invoke(app, ["run", "NPO", *options])
    assert result.exit_code == 0
    assert f"baldro compare {os.path.relpath(runner.folder)}/saves/eval/NPO_seed*" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["NPO:x"],
        ["NPO", "--seeds", "a"],
        ["NPO", "--seeds", "-1"],
        *(["NPO", "--seeds", "9" * digits] for digits in (400, 5000)),
        ["NPO:trainer.args.seed=1", "--seeds", "0,1"],
        ["NPO", "--learning-rates", "1e-4", "--set", "trainer.args.learning_rate=1e-5"],
        ["NPO", "--learning-rates", "1e-4,1e-4"],
        ["BalDRO_DW"],
        ["BalDRO_DW", "--dry-run"],
        ["--checkout", "/nowhere"],
        ["--hardware", "gpu"],
        ["--hardware", "cpu_eval"],
        ["--metrics", "forget_quality"],  # which this checkout does not have
        ["--every-epoch", "forget_prob"],
        ["--model-config", "Llama"],
        ["--experiment", "unlearn/tofu/idq"],
        ["--retain-logs", "missing.json"],
        [f"{'long' * 60}=NPO"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(arguments: list[str], runner: Runner, checkout: Path) -> None:
    options = ["--folder", str(runner.folder), "--checkout", str(checkout)]
    result = CliRunner().invoke(app, ["run", *options, *arguments])
    assert result.exit_code == 2
    assert not calls(runner)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_ends_what_runs_and_leaves_the_rest_to_go_on(
    sent: signal.Signals, runner: Runner, checkout: Path
) -> None:
    command = [sys.executable, "-m", "baldro_ext.tools.cli", "run", "NPO", "slow=NPO:trainer.args.sleep=60"]
    command += ["--folder", str(runner.folder), "--checkout", str(checkout), "--framework-accumulation"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        # Tests that a shell runs in its background, or by nohup, inherit an ignored signal.
        preexec_fn=lambda: signal.signal(sent, signal.SIG_DFL),
    )
    while "unlearn slow_seed0" not in calls(runner):
        assert process.poll() is None
        time.sleep(0.05)
    started = time.monotonic()
    os.kill(process.pid, sent)
    _, printed = process.communicate(timeout=30)
    assert time.monotonic() - started < 30
    assert process.returncode == 130
    assert "Interrupted. What is finished is kept" in printed
    assert "Traceback" not in printed
    what = study("NPO", "slow=NPO:trainer.args.sleep=60")
    assert [line.split("task_name=")[1].split()[0] for line in lines(what, runner)] == ["slow_seed0", "slow_seed0"]


@pytest.mark.skipif(sys.platform == "win32", reason="commands do not inherit the lock there")
def test_a_command_that_outlives_its_call_keeps_the_next_one_out(runner: Runner, checkout: Path) -> None:
    command = [sys.executable, "-m", "baldro_ext.tools.cli", "run", "slow=NPO:trainer.args.sleep=60"]
    command += ["--folder", str(runner.folder), "--checkout", str(checkout), "--framework-accumulation"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    while not calls(runner):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    (left,) = alive(runner.folder)
    with pytest.raises(RefusedError, match=f"unlearn slow_seed0: process {left}"):
        run(runner, study("slow=NPO:trainer.args.sleep=60"))
    os.kill(left, signal.SIGKILL)
    while alive(runner.folder):
        time.sleep(0.05)
    run(runner, study("slow=NPO:trainer.args.sleep=0"), overwrite=True)
    assert len(calls(runner)) == 3


def test_kills_at_random_moments_lose_nothing_and_double_nothing(runner: Runner, checkout: Path) -> None:
    """BALDRO_KILLS=100 makes it a longer trial; `tests/kill_runs.py` does it with the real framework."""
    kills = int(os.environ.get("BALDRO_KILLS", "3"))
    assert trial(runner.folder, checkout, kills, seconds=3, seed=0, options=())["kills"] == kills


@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        (lambda folder: (folder / "logs").touch(), "logs"),
        (lambda folder: (folder / "logs").symlink_to("/proc"), "logs"),  # where not even root may write
        (lambda folder: (folder / "logs/evaluate_NPO_seed0.log").mkdir(parents=True), "evaluate_NPO_seed0.log"),
    ],
    ids=["logs is a file", "no permission", "a folder instead of a log"],
)
def test_a_folder_that_cannot_be_used_is_named_without_a_traceback(
    runner: Runner, checkout: Path, break_it: Callable[[Path], None], named: str
) -> None:
    runner.folder.mkdir()
    break_it(runner.folder)
    result = CliRunner().invoke(app, ["run", "NPO", "--folder", str(runner.folder), "--checkout", str(checkout)])
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert named in result.stderr
    assert "folder" in result.stderr.splitlines()[-1]


def test_a_disk_that_takes_no_more_is_named_and_leaves_no_partial_file(runner: Runner, checkout: Path) -> None:
    command = f"ulimit -f 0; exec {shlex.quote(sys.executable)} -m baldro_ext.tools.cli run NPO"
    command += f" --folder {shlex.quote(str(runner.folder))} --checkout {shlex.quote(str(checkout))}"
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "NPO_seed0.json: File too large; raise the limit" in done.stderr
    assert "Traceback" not in done.stderr
    assert not [*runner.folder.rglob("*.partial")]


def test_paths_with_spaces_are_printed_as_a_shell_reads_them(tmp_path: Path, checkout: Path) -> None:
    folder = tmp_path / "my work"
    options = [
        "run",
        "NPO",
        "bad=NPO:trainer.args.fails=ValueError",
        "--folder",
        str(folder),
        "--checkout",
        str(checkout),
    ]
    assert f"cd '{folder}'" in CliRunner().invoke(app, [*options, "--dry-run"]).stdout
    assert f"log: '{folder}/logs/unlearn_NPO_seed0.log'" in CliRunner().invoke(app, options).stdout
    said = CliRunner().invoke(app, [*options[:2], *options[3:]])
    assert f"baldro compare '{os.path.relpath(folder)}/saves/eval'/NPO_seed*" in said.stdout

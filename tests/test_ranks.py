"""Data-parallel ranks: real processes, which exchange numbers by gloo."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from baldro_ext import compat
from baldro_ext.data import IndexedPairs

from .ranks import BATCH, SCOPES, UNANSWERED, VARIANTS, WITH_UNANSWERED, Noted, partly_unanswered, with_unanswered
from .test_budget import alphas
from .tiny import columns, differing

pytestmark = pytest.mark.transformers

Seen = Callable[[str], list[dict[str, Any]]]


@pytest.fixture(scope="module", params=[2, 3], ids=lambda ranks: f"{ranks} ranks")
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """A function that returns what each rank saw of a case."""
    ranks, folder = request.param, tmp_path_factory.mktemp("ranks")
    command = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks))
    done = subprocess.run(
        [*command, "-m", "tests.ranks", str(folder)],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )

    def read(case: str) -> list[dict[str, Any]]:
        paths = [folder / case / f"{rank}.pt" for rank in range(ranks)]
        if not all(path.exists() for path in paths):
            pytest.fail(f"case {case} was not reached\n{done.stdout[-2000:]}{done.stderr[-6000:]}", pytrace=False)
        found = [torch.load(path, weights_only=True) for path in paths]
        for rank, one in enumerate(found):
            if "failed" in one:
                pytest.fail(f"rank {rank}: {one['failed']}", pytrace=False)
        return found

    return read


def assert_equal(ranks: list[dict[str, torch.Tensor]]) -> None:
    """Weights, and what is known of each sample, are the same on each rank to the last bit."""
    for other in ranks[1:]:
        assert differing(ranks[0], other) == []


def test_ranks_draw_the_retain_samples_that_one_process_would_draw_for_their_forget_samples(seen: Seen) -> None:
    ranks = [rank["drawn"] for rank in seen("draws")]
    per_epoch = 4 * BATCH
    data = IndexedPairs(Noted(per_epoch * len(ranks), 100), seed=42)
    for epoch in range(2):
        of_ranks = [drawn[epoch * per_epoch : (epoch + 1) * per_epoch] for drawn in ranks]
        data.epoch = epoch
        for index, retain in [pair for drawn in of_ranks for pair in drawn]:
            assert data[index]["retain"]["place"] == retain
        forget = [index for drawn in of_ranks for index, _ in drawn]
        assert sorted(forget) == list(range(per_epoch * len(ranks)))
        in_order = [tuple(retain for _, retain in drawn) for drawn in of_ranks]
        assert len(set(in_order)) == len(ranks)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_all_ranks_know_the_same_of_each_sample(seen: Seen, variant: str, scope: str) -> None:
    ranks = [rank["columns"] for rank in seen(f"state {variant} {scope}")]
    assert_equal(ranks)
    assert ranks[0]["seen"].all()
    assert ranks[0]["losses"].isfinite().all()


def test_ranks_adapt_alpha_alike_to_their_mean_retain_loss(seen: Seen) -> None:
    ranks = seen("budget")
    assert_equal([rank["columns"] for rank in ranks])
    retain = np.array([rank["retain_loss"] for rank in ranks])
    assert (retain[0] != retain[1]).all()
    before = ranks[0]["retain_loss"][0] - ranks[0]["retain_excess"][0]
    expected = [1.0, *alphas(retain.mean(0), before, 0.05, 1.0, 0.1)]
    for rank in ranks:
        np.testing.assert_allclose(rank["alpha"], expected[:-1], rtol=1e-3)


@pytest.mark.parametrize("name", WITH_UNANSWERED)
@pytest.mark.parametrize("where", UNANSWERED)
def test_a_micro_batch_without_answers_trains_as_in_one_process(
    seen: Seen, where: str, name: str, tmp_path: Path
) -> None:
    ranks = seen(f"unanswered on {where} {name}")
    assert_equal([rank["columns"] for rank in ranks])
    labeled = [any(label != -100 for label in one["labels"]) for one in partly_unanswered(len(ranks), where)]
    assert ranks[0]["known"].tolist() == labeled
    one = with_unanswered(tmp_path, len(ranks), BATCH * len(ranks), where, WITH_UNANSWERED[name])
    for column, expected in columns(one).items():
        torch.testing.assert_close(ranks[0]["columns"][column], expected, rtol=0, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("size", [400, 46])
def test_training_ends_whatever_the_size_of_the_set(seen: Seen, size: int) -> None:
    ranks = seen(f"ends {size}")
    assert_equal([rank["whole"]["columns"] for rank in ranks])
    steps, all_steps = ranks[0]["whole"]["steps"]
    assert steps == all_steps > 3
    for rank in ranks:
        if "error" in rank["resumed"]:
            assert not compat.RESUMES_ANYWHERE
            assert "does not divide the" in rank["resumed"]["error"]
        else:
            assert differing(rank["resumed"]["columns"], rank["whole"]["columns"]) == []


@pytest.mark.parametrize(("variant", "scope"), list(zip(VARIANTS, SCOPES, strict=True)))
def test_ranks_resume_bit_by_bit(seen: Seen, variant: str, scope: str) -> None:
    ranks = seen(f"resuming {variant} {scope}")
    for name in ranks[0]:
        assert_equal([rank[name] for rank in ranks])
        assert differing(ranks[0][name], ranks[0]["whole"]) == [], name


def test_reentrant_checkpointing_is_refused_by_name(seen: Seen) -> None:
    for rank in seen("reentrant"):
        assert "gradient_checkpointing=True is not supported" in rank["error"]
        assert "use_reentrant" in rank["error"]
    assert_equal([rank["columns"] for rank in seen("not reentrant")])

"""In the framework, too, every kind of method trains on another device as on the CPU."""

from typing import Any

import pytest

from ..cases import METHODS
from ..test_devices import assert_alike, needs_backends, report_of
from .conftest import MODEL, Framework

# What a device is asked for does not depend on the generation.
pytestmark = [pytest.mark.framework, pytest.mark.generations("G2"), needs_backends]


@pytest.fixture(scope="module")
def report(framework: Framework) -> dict[str, Any]:
    return report_of("other-without-float64", str(framework.checkout), framework.name, MODEL, folder=framework.folder)


@pytest.mark.parametrize("method", METHODS)
def test_a_second_device_trains_as_the_cpu(report: dict[str, Any], method: str) -> None:
    assert_alike(report[method], 1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_the_host_waits_for_the_device_once_per_micro_batch(report: dict[str, Any], method: str) -> None:
    assert report[method]["waits"] == 1

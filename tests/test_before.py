"""Which adapters leave the model before unlearning as it is."""

from typing import Any

import peft
import pytest
import torch

from baldro_ext.before import adapters_do_nothing

from .tiny import llama

pytestmark = pytest.mark.transformers


def adapted(dtype: torch.dtype, **settings: Any) -> Any:
    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", **settings)
    return peft.get_peft_model(llama().to(dtype), config)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("settings", [{}, {"use_dora": True}, {"use_rslora": True}], ids=str)
def test_new_adapters_do_nothing_but_rounding(settings: dict[str, Any], dtype: torch.dtype) -> None:
    assert adapters_do_nothing(adapted(dtype, **settings))


def test_adapters_that_change_the_model_do_something() -> None:
    assert not adapters_do_nothing(adapted(torch.float32, init_lora_weights="pissa"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_adapters_that_were_trained_do_something(dtype: torch.dtype) -> None:
    model = adapted(dtype)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data += 1e-2
    assert not adapters_do_nothing(model)

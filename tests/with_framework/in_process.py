"""The framework's trainer in this process, put together as its train.py does, for scripts that need a hold on it."""

import sys
from typing import Any


def make_trainer(framework: tuple[str, str, str], *overrides: str) -> Any:
    """Return the trainer of a configuration.

    Args:
        framework: Checkout, generation, and the folder of a model and its tokenizer.
        overrides: Of the configuration, the experiment among them; `trainer=BalDRO_DV` unless they say otherwise.
    """
    checkout, generation, model_name = framework
    sys.path.insert(0, f"{checkout}/src")
    from hydra import compose, initialize_config_dir

    import baldro_ext

    baldro_ext.register()
    from data import get_collators, get_data
    from model import get_model
    from trainer import load_trainer
    from trainer.utils import seed_everything

    with initialize_config_dir(f"{checkout}/configs", version_base=None):
        config = compose(
            "train",
            [
                "trainer=BalDRO_DV",
                "+hardware=cpu",
                f"model.model_args.pretrained_model_name_or_path={model_name}",
                f"model.tokenizer_args.pretrained_model_name_or_path={model_name}",
                "task_name=in_process",
                "trainer.args.report_to=none",
                "trainer.args.eval_strategy=no",
                "trainer.args.eval_on_start=false",
                "trainer.args.do_eval=false",
                "+trainer.args.disable_tqdm=true",
                *overrides,
            ],
        )
    seed_everything(config.trainer.args.seed)
    model, tokenizer = get_model(config.model)
    data = get_data(config.data, mode=config.mode, tokenizer=tokenizer, template_args=config.model.template_args)
    collator = get_collators(config.collator, tokenizer=tokenizer)
    tokenizer_name = "tokenizer" if generation == "G1" else "processing_class"
    trainer, _ = load_trainer(
        config.trainer, model=model, train_dataset=data["train"], data_collator=collator, **{tokenizer_name: tokenizer}
    )
    return trainer

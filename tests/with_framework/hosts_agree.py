"""Check that the plain host and the open-unlearning host give the same samples, and the same loss and gradient.

Usage: python hosts_agree.py CHECKOUT GENERATION MODEL
"""

import sys

import torch
from in_process import make_trainer
from transformers import AutoTokenizer, Trainer

from baldro_ext import BalDROTrainer, encode_answers

DATA = ("experiment=unlearn/tofu",)
SETTINGS = {
    "BalDRO_DV": ({"dv_beta": 2.0}, {"reference": "live"}, {"retain_loss_type": "KL"}),
    "BalDRO_G": ({"base": "NPO", "top_fraction": 0.25}, {"scope": "dataset"}, {"retain_batch": "matched"}),
}


def loss_and_gradient(trainer: Trainer, batch: dict) -> torch.Tensor:
    """Return `(1 + parameters,)`: the loss, then its gradient."""
    trainer.model.eval()
    loss = trainer.compute_loss(trainer.model, batch)
    return torch.cat(
        [loss.detach()[None], *(g.flatten() for g in torch.autograd.grad(loss, list(trainer.model.parameters())))]
    )


for variant, all_settings in SETTINGS.items():
    for settings in all_settings:
        words = [f"trainer.method_args.{key}={value}" for key, value in settings.items()]
        theirs = make_trainer(tuple(sys.argv[1:4]), *DATA, f"trainer={variant}", *words)
        plain = BalDROTrainer(
            theirs.model,
            theirs.args,
            variant=variant,
            train_dataset=theirs.train_dataset._dataset,
            data_collator=theirs.data_collator.collator,
            **settings,
        )
        batch = theirs.data_collator([theirs.train_dataset[index] for index in (3, 1, 4, 9)])
        for trainer in (theirs, plain):
            if trainer.settings.needs_model_before:
                trainer.prepare_model_before(trainer.model)
            trainer.score_forget_set(trainer.model)  # the reference, while the model still is it
        with torch.no_grad():
            torch.manual_seed(0)
            for parameter in theirs.model.parameters():
                parameter += 0.02 * torch.randn_like(parameter)
        ours, framework = loss_and_gradient(plain, batch), loss_and_gradient(theirs, batch)
        torch.testing.assert_close(ours, framework, rtol=1e-5, atol=1e-6)
        assert framework[1:].abs().max() > 1e-3
        print(f"{variant} {settings} agrees: {float(framework[0]):.4f}")

from data.utils import preprocess_chat_instance  # noqa: E402 -- the framework is on the path by now

tokenizer = AutoTokenizer.from_pretrained(sys.argv[3])
tokenizer.chat_template = "{{ date_string }}{% for message in messages %}{{ message['content'] }}<s>{% endfor %}"
asked, answered = "Who wrote it?", "Nobody did."
prompt, day = "Be kind.", "10 Apr 2025"
expected = preprocess_chat_instance(
    tokenizer, {"apply_chat_template": True, "system_prompt": prompt, "date_string": day}, [asked], [answered], 512
)
rows = [{"question": asked, "answer": answered}]
(sample,) = encode_answers(tokenizer, rows, system_prompt=prompt, template={"date_string": day})
for key, ids in sample.items():
    # The framework ends an answer by the end of text where the template does not.
    assert expected[key].tolist()[: len(ids)] == ids
print("the encoding agrees: with system prompt and date")

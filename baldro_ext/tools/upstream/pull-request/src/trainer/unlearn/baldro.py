import logging
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.unlearn.grad_diff import GradDiff

logger = logging.getLogger(__name__)


def npo_losses(log_probs: Tensor, ref_log_probs: Tensor, beta: float) -> Tensor:
    """NPO per sample, from the log-likelihoods of whole answers, shape [n]"""
    return -2 / beta * F.logsigmoid(-beta * (log_probs - ref_log_probs))


def simnpo_losses(mean_log_probs: Tensor, beta: float, delta: float) -> Tensor:
    """SimNPO per sample, from the mean log-probability per answer token, shape [n]"""
    return -2 / beta * F.logsigmoid(-beta * (mean_log_probs + delta))


def satimp_token_losses(log_probs: Tensor, beta1: float, beta2: float) -> Tensor:
    """SatImp per token, from log-probabilities of any shape; 0 where they are 0"""
    probs = log_probs.detach().exp()
    return probs**beta1 * (1 - probs) ** beta2 * log_probs


def donsker_varadhan_weights(losses: Tensor, beta: float) -> Tensor:
    """
    Worst case of BalDRO-DV, a soft maximum: the distribution w that maximises
    sum_i w_i * losses_i - beta * KL(w || uniform).

    That maximum is beta * log(mean(exp(losses / beta))), and w is its gradient.

    Args:
      losses: One per sample, larger = less forgotten, shape [n]
      beta: Temperature in units of the loss; inf weighs all samples alike

    Returns:
      Weights of sum 1, shape [n]
    """
    return (losses / beta).softmax(0)


def top_group_weights(losses: Tensor, fraction: float) -> Tensor:
    """
    Worst case of BalDRO-G, the group with the largest losses, weighed evenly.

    A sample at the boundary counts in part where fraction * n is not an integer, and
    samples tied there share what is left (conditional value at risk).

    Args:
      losses: One per sample, larger = less forgotten, shape [n]
      fraction: Share of the samples in the group, in (0, 1]; 1 weighs all alike

    Returns:
      Weights of sum 1, shape [n]
    """
    # Rounded, because 0.1 * 30 is 3.0000000000000004 in floating point
    size = max(1.0, round(fraction * len(losses), 9))
    boundary = losses.sort(descending=True).values[math.ceil(size) - 1 :][:1]
    above, tied = (losses > boundary).to(losses), (losses == boundary).to(losses)
    return (above + tied * (size - above.sum()) / tied.sum()) / size


def compute_answer_log_probs(model, inputs):
    """
    Log-probabilities of the answer tokens. Samples without an answer token have
    nothing to forget and are left out.

    Returns:
      Log-probabilities, 0 outside the answers, shape [n, sequence_length - 1]
      Number of answer tokens of each sample, shape [n]
      Model outputs
    """
    outputs = model(
        input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]
    )
    labels = inputs["labels"][..., 1:].to(outputs.logits.device)
    logits = outputs.logits[..., :-1, :].float()
    nll = F.cross_entropy(logits.transpose(-1, -2), labels, reduction="none")
    lengths = (labels != -100).sum(-1)
    answered = lengths > 0
    return -nll[answered], lengths[answered], outputs


class BalDRO(GradDiff):
    """
    Trains on gamma * sum_i w_i * forget_loss_i + alpha * retain_loss, where the weights w
    are the worst case over the samples of a forget batch. See https://arxiv.org/abs/2601.09172

    Args:
      base: Forget loss: NPO, SimNPO or SatImp
      hardness: What the weights are chosen by: "loss", or "nll" for the mean
        log-probability per answer token; by default "nll" for SatImp
      beta, delta, beta1, beta2: As in the trainer of the base
    """

    def __init__(
        self,
        base="NPO",
        hardness=None,
        beta=1.0,
        delta=0.0,
        beta1=5.0,
        beta2=1.0,
        *args,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.base = base
        # The loss of SatImp is largest for forgotten samples too
        self.hardness = hardness or ("nll" if base == "SatImp" else "loss")
        if self.hardness not in ("loss", "nll"):
            raise ValueError(f"hardness={hardness} is unknown: use loss or nll")
        self.beta = beta
        self.delta = delta
        self.beta1 = beta1
        self.beta2 = beta2
        # The loss is a mean per micro-batch. With True, which transformers 4.46 to 4.52 set for
        # Llama and others, it would not be divided by gradient_accumulation_steps
        self.model_accepts_loss_kwargs = False
        if base == "NPO" and self.ref_model is None:
            self.ref_model = self._prepare_ref_model(self.model)
        if self.args.per_device_train_batch_size == 1:
            logger.warning(
                f"A batch of one sample has no worst case: this is plain {base}. "
                "Set per_device_train_batch_size to 2 or more."
            )

    def compute_weights(self, losses):
        raise NotImplementedError

    def compute_forget_losses(self, model, inputs):
        log_probs, lengths, outputs = compute_answer_log_probs(model, inputs)
        if self.base == "NPO":
            with torch.no_grad():
                ref_log_probs, _, _ = compute_answer_log_probs(self.ref_model, inputs)
            losses = npo_losses(log_probs.sum(-1), ref_log_probs.sum(-1), self.beta)
        elif self.base == "SimNPO":
            losses = simnpo_losses(log_probs.sum(-1) / lengths, self.beta, self.delta)
        elif self.base == "SatImp":
            losses = satimp_token_losses(log_probs, self.beta1, self.beta2)
            losses = losses.sum(-1) / lengths
        else:
            raise NotImplementedError(f"{self.base} not implemented as base of BalDRO")
        hardness = losses if self.hardness == "loss" else log_probs.sum(-1) / lengths
        return losses, hardness.detach(), outputs

    def compute_loss(
        self, model, inputs, return_outputs=False, num_items_in_batch=None
    ):
        losses, hardness, forget_outputs = self.compute_forget_losses(
            model, inputs["forget"]
        )
        forget_loss = (self.compute_weights(hardness) * losses).sum()

        retain_inputs = inputs["retain"]
        retain_inputs = {
            "input_ids": retain_inputs["input_ids"],
            "attention_mask": retain_inputs["attention_mask"],
            "labels": retain_inputs["labels"],
        }
        retain_loss = self.compute_retain_loss(model=model, retain_inputs=retain_inputs)

        loss = self.gamma * forget_loss + self.alpha * retain_loss
        return (loss, forget_outputs) if return_outputs else loss


class BalDRO_DV(BalDRO):
    """BalDRO with the weights of donsker_varadhan_weights"""

    def __init__(self, dv_beta=2.0, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if dv_beta == 0:
            raise ValueError(
                "dv_beta=0 has no worst case: use 2.0, or inf for the mean"
            )
        self.dv_beta = dv_beta

    def compute_weights(self, losses):
        return donsker_varadhan_weights(losses, self.dv_beta)


class BalDRO_G(BalDRO):
    """BalDRO with the weights of top_group_weights"""

    def __init__(self, top_fraction=0.5, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if not 0 < top_fraction <= 1:
            raise ValueError(f"top_fraction={top_fraction} is not in (0, 1]")
        self.top_fraction = top_fraction

    def compute_weights(self, losses):
        return top_group_weights(losses, self.top_fraction)

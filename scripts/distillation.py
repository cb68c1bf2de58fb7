"""What a student network learns from: labels, and the probabilities of a teacher that began with ImageNet's weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch_copy import TorchCopy
from views import render

__all__ = ["distillation_loss", "imagenet_teacher", "label_loss"]

TEMPERATURE = 2.0  # softmax temperature of distillation (arXiv 1503.02531, section 2)
TEACHER_SHARE = 0.5  # weight of the teacher's probabilities in the loss; the rest is that of the labels


def label_loss(scores: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Compute the mean cross-entropy of (N, classes) logits and the (N, classes) shares of the classes in the views."""
    return functional.cross_entropy(scores, shares)


def distillation_loss(scores: torch.Tensor, shares: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Compute the mean loss of (N, classes) logits for labels and a teacher.

    Args:
        scores: logits of the student.
        shares: shares of the classes in the views.
        teacher: logits of the teacher.

    Returns:
        The weighted mean of `label_loss` and of the Kullback-Leibler divergence from the teacher's softened
        probabilities, which is multiplied by the square of the temperature (arXiv 1503.02531, section 2.1).
    """
    softened, wanted = (functional.log_softmax(x / TEMPERATURE, dim=1) for x in (scores, teacher))
    divergence = TEMPERATURE**2 * functional.kl_div(softened, wanted, reduction="batchmean", log_target=True)
    return TEACHER_SHARE * divergence + (1 - TEACHER_SHARE) * label_loss(scores, shares)


def imagenet_teacher(network: Any, views: dict[str, Any]) -> None:
    """Load ImageNet's weights into MobileNetV2 1.0, and set BatchNormalization to the statistics of the views.

    In some files of these weights, BatchNormalization is folded into the convolutions. In training, batch statistics
    would then change what the network computes. So mean, variance, scale and offset are set such that each layer
    computes the same as before when it uses the statistics of a batch.

    Args:
        network: a network with another number of classes; its classifier keeps its weights.
        views: whole pictures, as `views.whole_pictures` returns them.
    """
    import keras

    imagenet = keras.applications.MobileNetV2(weights="imagenet")
    network.set_weights(imagenet.get_weights()[:-2] + network.get_weights()[-2:])
    copy = TorchCopy(network).eval()
    seen: dict[str, tuple[Any, Any]] = {}
    norms = {layer.name: layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)}

    def remember(name: str) -> Any:
        def hook(_module: Any, inputs: tuple[torch.Tensor]) -> None:
            variance, mean = torch.var_mean(inputs[0], (0, 2, 3), correction=0)
            seen[name] = mean.numpy(), variance.numpy()

        return hook

    for name in norms:
        copy.layers[name].register_forward_pre_hook(remember(name))
    with torch.no_grad():
        copy(torch.from_numpy(render(views)))
    for name, norm in norms.items():
        gamma, beta, old_mean, old_variance = norm.get_weights()
        mean, variance = seen[name]
        scale = gamma / np.sqrt(old_variance + norm.epsilon)
        new_gamma = scale * np.sqrt(variance + norm.epsilon)
        norm.set_weights([new_gamma, beta + scale * (mean - old_mean), mean, variance])

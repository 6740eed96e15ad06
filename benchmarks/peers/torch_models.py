"""The workloads' models in PyTorch, from weights in Keras's layout and back."""

import numpy as np
import torch
from runner import Work


def build(work: Work) -> torch.nn.Module:
    """Returns the model with the workload's initial weights."""
    if work.model == 'linear':
        model = torch.nn.Linear(*work.weights[0].shape)
    elif work.model == 'mlp':
        model = torch.nn.Sequential(
            torch.nn.Linear(*work.weights[0].shape),
            torch.nn.ReLU(),
            torch.nn.Linear(*work.weights[2].shape),
        )
    else:
        classes = work.weights[-1].shape[0]
        model = torch.nn.Sequential(
            torch.nn.Conv2d(1, 32, 5, padding='same'),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
            torch.nn.Conv2d(32, 64, 5, padding='same'),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
            torch.nn.Flatten(),
            torch.nn.Linear(7 * 7 * 64, 128),
            torch.nn.ReLU(),
            torch.nn.Linear(128, classes),
        )
    with torch.no_grad():
        for parameter, weight in zip(model.parameters(), from_keras(work), strict=True):
            parameter.copy_(weight)
    return model


def inputs(work: Work) -> torch.Tensor:
    """Returns the inputs, images as [rows, channels, height, width]."""
    x = torch.from_numpy(work.x)
    return x if work.model in ('linear', 'mlp') else x.permute(0, 3, 1, 2).contiguous()


def from_keras(work: Work) -> list[torch.Tensor]:
    """Returns the initial weights in PyTorch's layout."""
    weights = []
    for index, weight in enumerate(work.weights):
        if weight.ndim == 4:
            weight = weight.transpose(3, 2, 0, 1)
        elif weight.ndim == 2:
            if work.model == 'cnn' and index == 4:
                # Keras flattens height, width, channels; PyTorch channels first.
                weight = weight.reshape(7, 7, 64, -1).transpose(2, 0, 1, 3)
                weight = weight.reshape(7 * 7 * 64, -1)
            weight = weight.T
        weights.append(torch.from_numpy(np.ascontiguousarray(weight)))
    return weights


def to_keras(work: Work, weights) -> list[np.ndarray]:
    """Returns weights in Keras's layout; the inverse of `from_keras`."""
    result = []
    for index, weight in enumerate(weights):
        if isinstance(weight, torch.Tensor):
            weight = weight.detach().numpy()
        if weight.ndim == 4:
            weight = weight.transpose(2, 3, 1, 0)
        elif weight.ndim == 2:
            weight = weight.T
            if work.model == 'cnn' and index == 4:
                weight = weight.reshape(64, 7, 7, -1).transpose(1, 2, 0, 3)
                weight = weight.reshape(7 * 7 * 64, -1)
        result.append(weight)
    return result

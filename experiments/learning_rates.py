"""Client learning rates where a backbone is trained, the best that were tried.

For MobileNetV2 0.35 at 64 px on handwriting, batches of 20, SGD on the clients, and a
server that takes the mean of their weights (docs/finetuning.md has what was tried).
"""

FROZEN = {
    'top': 0.003,
    'all': 0.003,
    'head_then_all': 0.003,
    'bias_norm': 0.01,
    'adapters': 0.003,
}
# Normalised by each batch, activations stay in bounds.
BY_BATCHES = {'pretrained': 0.1, 'random': 0.3}
GROUP_NORM = 0.01


def rate(finetune: str, policy: str, *, pretrained: bool = True) -> float:
    """Returns the rate for a strategy, a BatchNorm policy and a start."""
    if policy == 'frozen':
        return FROZEN[finetune]
    if policy == 'group_norm':
        return GROUP_NORM
    return BY_BATCHES['pretrained' if pretrained else 'random']

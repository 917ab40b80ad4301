"""The slow copy: an exponential moving average of the network."""

import torch
from torch import nn


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, kept: float) -> None:
    """Move the average towards the network; batch norm's running statistics too, while its counters are copied.

    kept  share of the average that stays

    torch's AveragedModel replaces the average by the network at the first update, and averages either no buffer or the
    counters as well.
    """
    ours = network.state_dict()
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            value.lerp_(ours[name], 1 - kept)
        else:
            value.copy_(ours[name])

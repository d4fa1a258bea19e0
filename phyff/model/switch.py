"""A switch from one to nothing, twice continuously differentiable, in torch and as an OpenMM expression."""

import torch
from torch import Tensor

SWITCH = "1 - t^3*(10 - t*(15 - 6*t))"
"""Of t from 0 to 1."""


def quintic_switch(r: Tensor, start: float, end: float) -> Tensor:
    """SWITCH of how far a distance has come from `start` to `end`."""
    t = torch.clamp((r - start) / (end - start), 0.0, 1.0)
    return 1 - t**3 * (10 - t * (15 - 6 * t))


def switch_argument(distance: str, start: float, end: float) -> str:
    """The expression of t."""
    return f"min(1, max(0, ({distance} - {start})/{round(end - start, 9)}))"

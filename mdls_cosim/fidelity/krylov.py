"""Cells linearised at voltages of their own for every input: the tile's linear response, by conjugate gradients.

With the slopes s of the cells at an operating point, a mismatch m of currents is made up for by currents x that obey

    (1 + s R) x = m,    x = m - s y,    (1/R + s) y = m,

R being the wires (`line_modes`). The last system is symmetric and positive, so conjugate gradients solve it, all
inputs side by side, preconditioned by T = (1/R + g)^-1 of cells g close to s. Since z = T r means z/R = r - g z, 1/R
is never applied, and zero resistances need no care. The last step is z itself, unscaled: it ends the modes that hardly
feel the wires, in which T is exact and to which the energy norm of the method is blind.

In single precision: whoever calls holds the residual in double and calls again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdls_cosim.fidelity.line_modes import Lines, Response

_STEPS = 60
_ROUNDS = 20
_REDUCTION = 1e-4
_ROUNDING = 1e-13
_HEADWAY = 0.5
_TINY = torch.finfo(torch.float32).tiny


class Room:
    """Memory for arrays that are used again and again: fetching it afresh takes longer than the arithmetic."""

    def __init__(self) -> None:
        self._flat: Tensor | None = None

    def arrays(self, count: int, like: Tensor) -> Tensor:
        """(count, *shape of `like`), whatever is in it; valid until the next call."""
        size = count * like.numel()
        flat = self._flat
        if flat is None or len(flat) < size or (flat.dtype, flat.device) != (like.dtype, like.device):
            flat = self._flat = like.new_empty(size)
        return flat[:size].view(count, *like.shape)


def largest(values: Tensor) -> Tensor:
    """Largest magnitude per tile and input, (tiles, 1, inputs, 1)."""
    return values.abs().amax((-3, -1), keepdim=True)


def make_up(
    alike: Response,
    slopes: Tensor,
    mismatch: Tensor,
    size: Tensor,
    reduction: Tensor | float,
    share: float = 1.0,
    room: Room | None = None,
) -> Tensor:
    """x of `mismatch`, both (tiles, rows, inputs, cols), to about `reduction` (tiles, 1, inputs, 1) of it.

    Args:
        alike: the response of cells not far from these.
        slopes: (tiles, rows, inputs, cols) [S], zero or more, float32.
        mismatch: whatever it stands for, in any precision.
        size: its `largest`.
        share: of the inputs that are to get there; the last few may take most of the steps.
        room: to work in, where there is some already.
    """
    excess, left, solved, direction, image, response, one, other = (room or Room()).arrays(8, slopes)
    size = size.to(slopes).clamp_min(_TINY)

    def dot(first: Tensor, second: Tensor) -> Tensor:
        return torch.mul(first, second, out=one).sum((-3, -1), keepdim=True)

    if alike.conductances is None:
        excess = slopes
    else:
        torch.sub(slopes, alike.conductances, out=excess)
    left.copy_(mismatch).div_(size)
    goal = energy = None
    for step in range(_STEPS + 1):
        alike.respond(left, response, (one, other))
        now = dot(left, response).clamp_min_(0.0)
        goal = (now * reduction**2).clamp_min_(_TINY) if goal is None else goal
        carried = torch.addcmul(left, excess, response, out=other)
        if step == _STEPS or float((now <= goal).float().mean()) >= share:
            break
        if energy is None:
            direction, response, image, other = response, direction, carried, image
        else:
            turn = now / energy.clamp_min_(_TINY)
            torch.addcmul(response, direction, turn, out=direction)
            torch.addcmul(carried, image, turn, out=image)
        energy = now
        length = now / dot(direction, image).clamp_min_(_TINY)
        if step:
            solved.addcmul_(direction, length)
        else:
            torch.mul(direction, length, out=solved)
        left.addcmul_(image, length, value=-1)
    # Of the last, whole step only its response is added; what it leaves is left - carried.
    solved = response if energy is None else solved.add_(response)
    return torch.addcmul(other.sub_(left), slopes, solved, value=-1).mul_(size).add_(mismatch)


def make_up_exactly(lines: Lines, alike: Response, slopes: Tensor, mismatch: Tensor) -> tuple[Tensor, Tensor]:
    """x in double precision, refined until it obeys (1 + s R) x = m.

    Returns:
        x, and what is left of m relative to its largest, (tiles, inputs): more than rounding where slopes are too far
        apart for conjugate gradients.
    """
    size = largest(mismatch).clamp_min(torch.finfo(mismatch.dtype).tiny)
    single, found, left, share = slopes.float(), torch.zeros_like(mismatch), mismatch, torch.ones_like(size)
    room = Room()
    for _ in range(_ROUNDS):
        scale = largest(left).clamp_min(torch.finfo(mismatch.dtype).tiny)
        found = found + scale * make_up(alike, single, left / scale, torch.ones_like(scale), _REDUCTION, room=room)
        left = mismatch - found - slopes * lines.drops(found)
        before, share = share, largest(left) / size
        if not bool(((share > _ROUNDING) & (share < _HEADWAY * before)).any()):
            break
    return found, share[:, 0, :, 0]

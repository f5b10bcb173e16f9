"""Muon: momentum whose every step is made orthogonal, for the weights of hidden layers (Jordan et al. 2024).

https://kellerjordan.github.io/posts/muon. `torch.optim.Muon` takes matrices only; here a convolution's weight
(c_out, c_in, k, k) counts as the matrix (c_out, c_in·k·k) that it is.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor


class Muon(torch.optim.Optimizer):
    """Descends by lr · √max(1, rows/columns) · UVᵀ, where U S Vᵀ is the momentum (Nesterov's) of the gradient.

    params: tensors of two or more dimensions. `dtype` is that of the products which orthogonalise: bfloat16 suffices
    (the iteration corrects itself) and is several times faster where the machine computes in it.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
        dtype: torch.dtype = torch.float32,
    ):
        params = list(params)
        if any(p.ndim < 2 for p in params):
            raise ValueError("Muon: takes weights of two or more dimensions only; give the others to AdamW.")
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure=None) -> None:
        """One descent, by the gradients in `.grad`."""
        for group in self.param_groups:
            by_shape = defaultdict(list)  # weights of one shape are orthogonalised together
            for p in group["params"]:
                if p.grad is not None:
                    by_shape[p.shape].append(p)
            for params in by_shape.values():
                directions = orthogonalize(torch.stack([self._direction(p, group["momentum"]) for p in params]))
                scale = max(1, directions.shape[1] / directions.shape[2]) ** 0.5
                for p, direction in zip(params, directions, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(direction.view_as(p).to(p.dtype), alpha=-group["lr"] * scale)

    def _direction(self, p: Tensor, momentum: float) -> Tensor:
        """Nesterov's momentum of p's gradient, as a matrix."""
        average = self.state[p].setdefault("momentum", torch.zeros_like(p))
        average.lerp_(p.grad, 1 - momentum)
        return p.grad.lerp(average, momentum).flatten(1).to(self.dtype)


def orthogonalize(matrices: Tensor, steps: int = 5) -> Tensor:
    """(B, rows, columns) → about U Vᵀ of each matrix U S Vᵀ: its singular values end between about 0.7 and 1.2.

    Newton-Schulz iteration of fifth order, with Jordan's coefficients, which need few steps rather than converge.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)  # a x + (b G + c G G) x
    return x.mT if tall else x

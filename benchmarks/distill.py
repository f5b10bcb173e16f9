"""Tried: the kit's network, made to draw in a few evaluations: `python -m benchmarks.distill STEPS MINUTES FILE`.

Moment matching (Salimans et al. 2024, arXiv:2406.04103, algorithm 2). A student takes STEPS long steps where the
teacher takes many short ones. What it draws at one of its times is led on to a time s between that and the next, and a
third network, the critic, learns which x̂_0 belongs to what the student makes there. Where the critic's x̂_0 is the
teacher's, the student's images are, in the mean, what the teacher expects: its gradient is the difference of the two.
All three start from the kit's weights; the teacher is guided, as the kit samples.
"""

import copy
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from hwkit.diffusion import Denoiser, ddpm_step, q_sample
from hwkit.measure.score import digit_fid
from hwkit.mnist.batches import batches, to_uint8
from hwkit.mnist.folder import load_folder
from hwkit.mnist.sources import prepare
from hwkit.runs.checkpoint import EXPORTED, PRETRAINED, load_denoiser
from hwkit.runs.speed import best_device, quickest_precision
from hwkit.sampling import GUIDANCE, ImageNoise, sample, times
from hwkit.training import autocast

BATCH, LR, BETAS, EMA = 64, 2e-4, (0.0, 0.99), 0.995  # on a GPU eight times the batch, and an EMA of 0.999
BLOCK = 100  # images sampled together


@dataclass
class Networks:
    """The three, and the student's moving average; `ts` are its times, from T to 0."""

    teacher: Denoiser
    student: nn.Module
    average: nn.Module
    critic: nn.Module
    ts: Tensor
    alpha_bar: Tensor  # (T+1,) float32

    @property
    def device(self) -> torch.device:
        return self.alpha_bar.device


def networks(denoise: Denoiser, steps: int, power: float) -> Networks:
    student, critic = (copy.deepcopy(denoise.model).train().requires_grad_(True) for _ in range(2))
    schedule, device = denoise.schedule, next(student.parameters()).device
    ts, alpha_bar = torch.tensor(times(schedule.T, steps, power=power)), schedule.alpha_bar.float()
    return Networks(denoise, student, copy.deepcopy(student).eval(), critic, ts.to(device), alpha_bar.to(device))


def drawn(nets: Networks, x_0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What the student draws at its times, x̃ (B, 3, 28, 28), with a gradient; x_s on the way from there; and s (B,)."""
    which = torch.randint(len(nets.ts) - 1, (len(x_0),), device=nets.device)
    t, following = nets.ts[which], nets.ts[which + 1].clamp(min=1)
    s = following + (torch.rand(len(x_0), device=nets.device) * (t - following)).long()
    a_t, a_s = (nets.alpha_bar[time][:, None, None, None] for time in (t, s))
    x_t = q_sample(x_0, a_t, torch.randn_like(x_0))
    x_tilde = nets.student(x_t, t).float()
    # x_s ~ q(x_s | x_t, x̃), the ancestral step (Ho et al. 2020, eq. 7).
    beta = 1 - a_t / a_s
    mean = (a_s**0.5 * beta * x_tilde.detach() + (1 - beta) ** 0.5 * (1 - a_s) * x_t) / (1 - a_t)
    return x_tilde, mean + (beta * (1 - a_s) / (1 - a_t)) ** 0.5 * torch.randn_like(x_t), s


@torch.no_grad()
def taught(nets: Networks, x_s: Tensor, s: Tensor) -> Tensor:
    """x̂_0 of the teacher, guided."""
    good, bad = nets.teacher.model(x_s, s).float(), nets.teacher.guide.model(x_s, s).float()
    return torch.lerp(bad, good, GUIDANCE["dpm++sde"]).clamp(-1, 1)


def critic_loss(nets: Networks, x_0: Tensor) -> Tensor:
    """The critic's x̂_0 should be the student's x̃, and not far from the teacher's (ibid., eq. 8)."""
    with torch.no_grad():
        x_tilde, x_s, s = drawn(nets, x_0)
    found = nets.critic(x_s, s).float()
    return (weight(nets, s) * ((found - x_tilde).square() + (found - taught(nets, x_s, s)).square())).mean()


def student_loss(nets: Networks, x_0: Tensor) -> Tensor:
    """x̃ goes where the teacher expects more of it than the critic (ibid., eq. 9)."""
    x_tilde, x_s, s = drawn(nets, x_0)
    with torch.no_grad():
        found = nets.critic(x_s, s).float()
    return (weight(nets, s) * x_tilde * (found - taught(nets, x_s, s))).mean()


def weight(nets: Networks, s: Tensor) -> Tensor:
    a_s = nets.alpha_bar[s][:, None, None, None]
    return (a_s / (1 - a_s)).clamp(max=5.0)


def distilled(nets: Networks, digits: Tensor, minutes: float, precision: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Student and critic in turns until the time is over; yields both losses."""
    pairs = [
        (loss, network, torch.optim.AdamW(network.parameters(), LR, BETAS, weight_decay=0.0))
        for loss, network in ((critic_loss, nets.critic), (student_loss, nets.student))
    ]
    gpu = nets.device.type != "cpu"
    size, ema = (8 * BATCH, 0.999) if gpu else (BATCH, EMA)
    stream = (x_0 for epoch in range(10**6) for x_0 in batches(digits, size, 0, epoch, device=nets.device))
    began = time.monotonic()
    while (progress := (time.monotonic() - began) / (60 * minutes)) < 1:
        said = []
        for loss_of, network, optimizer in pairs:
            optimizer.param_groups[0]["lr"] = LR * min(1.0, 2 - 2 * progress)
            with autocast(nets.device, precision):
                loss = loss_of(nets, next(stream))
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            said.append(loss.detach())
        with torch.no_grad():
            torch._foreach_lerp_([*nets.average.parameters()], [*nets.student.parameters()], 1 - ema)
        yield said[0], said[1]


def images(denoise: Denoiser, ts: list[int], seed: int, n: int, precision: str) -> Tensor:
    """uint8 (n, 3, 28, 28), by ancestral steps through the student's times."""
    made, device = [], next(denoise.model.parameters()).device
    for first in range(1, n + 1, BLOCK):
        noise = ImageNoise(seed, range(first, min(first + BLOCK, n + 1)), device=device)
        with autocast(device, precision):
            *_, last = sample(denoise, noise(), ts, denoise.schedule.alpha_bar, ddpm_step, noise)
        made.append(to_uint8(last.x_t).cpu())
    return torch.cat(made)


def main(steps: int, minutes: float, path: Path, power: float = 1.0, n: int = 2_000) -> None:
    torch.manual_seed(0)
    device = best_device()
    denoise = load_denoiser(PRETRAINED / EXPORTED, device)
    precision = quickest_precision(denoise, device) if device == "cpu" else "bf16"
    nets = networks(denoise, steps, power)
    student, ts = Denoiser(nets.average, denoise.schedule, "x0"), nets.ts.tolist()
    print(f"before: {steps} ancestral steps {ts}, digit-FID", *digit_fid(images(student, ts, 1, n, precision)))
    digits, losses = load_folder(prepare()).to(device), []
    for pair in tqdm(distilled(nets, digits, minutes, precision), "distilling"):
        losses.append(pair)
        if len(losses) % (250 if device == "cpu" else 2_000) == 0:
            of_critic, of_student = (torch.stack(column).mean().item() for column in zip(*losses[-250:], strict=True))
            value, error = digit_fid(images(student, ts, 1, n, precision))
            print(
                f"{len(losses)} pairs: losses {of_critic:.4f}, {of_student:.4f}; {value:.2f} ± {error:.2f}", flush=True
            )
            torch.save({"model": nets.average.state_dict(), "times": ts}, path)
    torch.save({"model": nets.average.state_dict(), "times": ts}, path)
    value, error = digit_fid(images(student, ts, 2, n, precision))
    print(f"{steps} steps, {len(losses)} pairs of steps: digit-FID {value:.2f} ± {error:.2f}, {n:,} images of seed 2")


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]), *map(float, sys.argv[4:5]))

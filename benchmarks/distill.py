"""The kit's network, made to draw in a few evaluations: `python -m benchmarks.distill STEPS MINUTES FILE [BEGUN]`.

Moment matching (Salimans et al. 2024, arXiv:2406.04103, algorithm 2). A student takes STEPS long steps where the
teacher takes many short ones. What it draws at one of its times is led on to a time s between that and the next, and a
third network, the critic, learns which x̂_0 belongs to what the student makes there. Where the critic's x̂_0 is the
teacher's, the student's images are, in the mean, what the teacher expects: its gradient is the difference of the two.
All three start from the kit's weights; the teacher is guided, as the kit samples. FILE (.safetensors) becomes the
student, as weights that `python -m hwkit sample --sampler ddpm --steps STEPS` draws with. BEGUN is such a file to go on
from: at a quarter of the pace, and after the critic alone has learned what that student draws.
"""

import copy
import sys
import time
from collections.abc import Iterator, Mapping
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
from hwkit.runs.checkpoint import EXPORTED, PRETRAINED, export, load, load_denoiser
from hwkit.runs.speed import quickest_precision
from hwkit.sampling import GUIDANCE, ImageNoise, sample, times
from hwkit.training import autocast

BETAS, CRITIC_LR, CRITIC_ALONE = (0.0, 0.99), 2e-4, 80  # steps before the student's first, where it was begun
BATCH = {"cpu": 64, "cuda": 512}
LR, EMA = {"new": 2e-4, "begun": 5e-5}, {"new": 0.999, "begun": 0.995}  # of the student
EVERY = {"cpu": 1_000, "cuda": 2_000}  # pairs of steps between two looks
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


def networks(denoise: Denoiser, steps: int, begun: Mapping | None) -> Networks:
    """All from the teacher's weights; the student from those of `begun`, where there are any."""
    student, critic = (copy.deepcopy(denoise.model).train().requires_grad_(True) for _ in range(2))
    if begun:
        student.load_state_dict(begun)
    schedule, device = denoise.schedule, next(student.parameters()).device
    ts, alpha_bar = torch.tensor(times(schedule.T, steps)), schedule.alpha_bar.float()
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
    return torch.lerp(bad, good, GUIDANCE).clamp(-1, 1)


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
    """The signal-to-noise ratio, between 1 and 5: the 0.0002 that it is at T would leave the first step untaught."""
    a_s = nets.alpha_bar[s][:, None, None, None]
    return (a_s / (1 - a_s)).clamp(1.0, 5.0)


def distilled(nets: Networks, digits: Tensor, minutes: float, precision: str, kind: str) -> Iterator[tuple]:
    """Critic and student in turns until the time is over; yields both losses. kind: new or begun."""
    learners = [
        (loss, network, torch.optim.AdamW(network.parameters(), lr, BETAS, weight_decay=0.0), lr)
        for loss, network, lr in (
            (critic_loss, nets.critic, CRITIC_LR),
            (student_loss, nets.student, LR[kind]),
        )
    ]
    size = BATCH[nets.device.type]
    stream = (x_0 for epoch in range(10**6) for x_0 in batches(digits, size, 0, epoch, device=nets.device))

    def learn(loss_of, network, optimizer, lr, progress) -> Tensor:
        optimizer.param_groups[0]["lr"] = lr * min(1.0, 2 - 2 * progress)
        with autocast(nets.device, precision):
            loss = loss_of(nets, next(stream))
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    began = time.monotonic()
    for _ in range(CRITIC_ALONE if kind == "begun" else 0):
        learn(*learners[0], progress=0.0)
    while (progress := (time.monotonic() - began) / (60 * minutes)) < 1:
        losses = [learn(*learner, progress) for learner in learners]
        with torch.no_grad():
            torch._foreach_lerp_([*nets.average.parameters()], [*nets.student.parameters()], 1 - EMA[kind])
        yield tuple(losses)


def images(denoise: Denoiser, ts: list[int], seed: int, n: int, precision: str) -> Tensor:
    """uint8 (n, 3, 28, 28), by ancestral steps through the student's times."""
    made, device = [], next(denoise.model.parameters()).device
    for first in range(1, n + 1, BLOCK):
        noise = ImageNoise(seed, range(first, min(first + BLOCK, n + 1)), device=device)
        with autocast(device, precision):
            *_, last = sample(denoise, noise(), ts, denoise.schedule.alpha_bar, ddpm_step, noise)
        made.append(to_uint8(last.x_t).cpu())
    return torch.cat(made)


def main(steps: int, minutes: float, path: Path, begun: Path | None = None, n: int = 2_000) -> None:
    torch.manual_seed(0)
    device, weights = "cuda" if torch.cuda.is_available() else "cpu", PRETRAINED / EXPORTED
    denoise, before = load_denoiser(weights, device), load(begun) if begun else None
    precision = quickest_precision(denoise, device) if device == "cpu" else "bf16"
    nets = networks(denoise, steps, before and before["weights"])
    student, ts = Denoiser(nets.average, denoise.schedule, "x0"), nets.ts.tolist()
    facts = {name: value for name, value in load(weights).items() if name not in ("guide", "weights")}
    earlier = before.get("distilled", []) if before else []

    def keep(pairs: int) -> None:
        told = {"steps": steps, "pairs": pairs, "batch": BATCH[device], "device": device}
        model = {name: tensor.cpu() for name, tensor in nets.average.state_dict().items()}
        export({**facts, "weights": model, "steps": steps, "distilled": [*earlier, told]}, path)

    print(f"before: {steps} ancestral steps {ts}, digit-FID", *digit_fid(images(student, ts, 1, n, precision)))
    digits, losses = load_folder(prepare()).to(device), []
    kind = "begun" if begun else "new"
    for pair in tqdm(distilled(nets, digits, minutes, precision, kind), "distilling"):
        losses.append(pair)
        if len(losses) % EVERY[device] == 0:
            of_critic, of_student = (torch.stack(column).mean().item() for column in zip(*losses[-250:], strict=True))
            value, error = digit_fid(images(student, ts, 1, n, precision))
            print(
                f"{len(losses)} pairs: losses {of_critic:.4f}, {of_student:.4f}; {value:.2f} ± {error:.2f}", flush=True
            )
            keep(len(losses))
    keep(len(losses))
    value, error = digit_fid(images(student, ts, 2, n, precision))
    print(f"{steps} steps, {len(losses)} pairs of steps: digit-FID {value:.2f} ± {error:.2f}, {n:,} images of seed 2")


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), *map(Path, sys.argv[3:5]))

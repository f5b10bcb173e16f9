"""The peers, each as its own documentation trains it, at (3, 28, 28). README.md says what was chosen and why."""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hwkit.mnist.batches import to_uint8
from hwkit.training import autocast

CPU = torch.device("cpu")


class Peer(ABC):
    """A network that is trained by `step` and sampled by `sample`; subclasses are the peers' own code and recipes."""

    name: str
    about: str  # the recipe in words
    sampler: str
    batch = 64
    clip = math.inf  # largest norm of the gradient
    model: nn.Module
    optimizer: torch.optim.Optimizer

    def __init__(self, precision: str = "fp32", channels_last: bool = False):
        torch.manual_seed(0)
        self.precision, self.format = precision, torch.channels_last if channels_last else torch.contiguous_format
        self.build()
        self.model.to(memory_format=self.format)

    @abstractmethod
    def build(self) -> None:
        """Makes `model`, `optimizer` and what averages the weights."""

    @abstractmethod
    def loss(self, x_0: Tensor) -> Tensor:
        """The training loss of images x_0 (B, 3, 28, 28) in [−1, 1]."""

    @abstractmethod
    def after_step(self, progress: float) -> None:
        """What follows a descent, such as the weights' average; `progress` (0 to 1) is the part of the time gone."""

    @abstractmethod
    def sample(self, n: int) -> Tensor:
        """n images, uint8 (n, 3, 28, 28), from the averaged weights."""

    def step(self, x_0: Tensor, progress: float = 0.0) -> float:
        """One training step; returns the loss."""
        self.model.train()
        with autocast(CPU, self.precision):
            loss = self.loss(x_0.contiguous(memory_format=self.format))
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.after_step(progress)
        return loss.item()


class Diffusers(Peer):
    name = "diffusers"
    about = "UNet2DModel((64, 128), layers_per_block=1), ε, T 1000, AdamW 1e-4, cosine after 500 steps, EMA, batch 16"
    sampler = "DDIM, 50 steps"
    batch, clip, lr, warm_up = 16, 1.0, 1e-4, 500

    def build(self) -> None:
        from diffusers import DDPMScheduler, UNet2DModel
        from diffusers.training_utils import EMAModel

        self.model = UNet2DModel(
            sample_size=28,
            layers_per_block=1,
            block_out_channels=(64, 128),
            down_block_types=("DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D"),
            add_attention=False,
        )
        self.scheduler = DDPMScheduler(num_train_timesteps=1000)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), self.lr / self.warm_up, (0.95, 0.999), weight_decay=1e-6
        )
        self.ema = EMAModel(self.model.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
        self.steps = 0

    def loss(self, x_0: Tensor) -> Tensor:
        noise, t = torch.randn_like(x_0), torch.randint(1000, (len(x_0),))
        return F.mse_loss(self.model(self.scheduler.add_noise(x_0, noise, t), t).sample.float(), noise)

    def after_step(self, progress: float) -> None:
        self.ema.step(self.model.parameters())
        self.steps += 1
        factor = min(self.steps / self.warm_up, 0.5 * (1 + math.cos(math.pi * progress)))
        self.optimizer.param_groups[0]["lr"] = self.lr * factor

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        from diffusers import DDIMScheduler

        self.model.eval()
        self.ema.store(self.model.parameters())
        self.ema.copy_to(self.model.parameters())
        scheduler, x = DDIMScheduler.from_config(self.scheduler.config), torch.randn(n, 3, 28, 28)
        scheduler.set_timesteps(50)
        for t in scheduler.timesteps:
            x = scheduler.step(self.model(x, t).sample, t, x).prev_sample
        self.ema.restore(self.model.parameters())
        return to_uint8(x)


class Lucidrains(Peer):
    name = "denoising-diffusion-pytorch"
    about = "Unet(dim=64, dim_mults=(1, 2)), v, sigmoid schedule, T 1000, Adam 8e-5, EMA 0.995, batch 2 × 32"
    sampler = "its own DDIM, 50 steps"
    clip = 1.0

    def build(self) -> None:
        from denoising_diffusion_pytorch import GaussianDiffusion, Unet
        from ema_pytorch import EMA  # its Trainer's

        unet = Unet(dim=64, dim_mults=(1, 2))
        self.model = GaussianDiffusion(unet, image_size=28, timesteps=1000, sampling_timesteps=50)
        self.optimizer = torch.optim.Adam(self.model.parameters(), 8e-5, (0.9, 0.99))
        self.ema = EMA(self.model, beta=0.995, update_every=10)

    def loss(self, x_0: Tensor) -> Tensor:
        return self.model((x_0 + 1) / 2)

    def after_step(self, progress: float) -> None:
        self.ema.update()

    def sample(self, n: int) -> Tensor:
        self.ema.ema_model.eval()
        return to_uint8(self.ema.ema_model.sample(batch_size=n) * 2 - 1)


class SmallDiffusion(Peer):
    name = "smalldiffusion"
    about = "Unet(ch=64, ch_mult=(1, 1, 2)), ε, log-linear σ 0.01 to 20, AdamW 7e-4, EMA 0.999, batch 64 (of its 1,024)"
    sampler = "its own, 20 steps, γ 1.6"

    def build(self) -> None:
        from smalldiffusion import Scaled, ScheduleLogLinear, Unet

        self.model = Scaled(Unet)(28, 3, 3, ch=64, ch_mult=(1, 1, 2), attn_resolutions=(14,))
        self.schedule = ScheduleLogLinear(N=800, sigma_min=0.01, sigma_max=20)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 7e-4)
        self.ema, self.steps = copy.deepcopy(self.model).eval().requires_grad_(False), 0

    def loss(self, x_0: Tensor) -> Tensor:
        from smalldiffusion.diffusion import generate_train_sample

        x_0, sigma, eps, _ = generate_train_sample(x_0, self.schedule)
        return self.model.get_loss(x_0, sigma, eps)

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        self.steps += 1
        decay = min(0.999, (1 + self.steps) / (10 + self.steps))  # torch_ema's, which its example takes
        torch._foreach_lerp_(list(self.ema.parameters()), list(self.model.parameters()), 1 - decay)

    def sample(self, n: int) -> Tensor:
        from accelerate import Accelerator
        from smalldiffusion import samples

        sigmas = self.schedule.sample_sigmas(20)
        *_, x_0 = samples(self.ema, sigmas, gam=1.6, batchsize=n, accelerator=Accelerator(cpu=True))
        return to_uint8(x_0)


PEERS: tuple[Callable[..., Peer], ...] = (Diffusers, Lucidrains, SmallDiffusion)

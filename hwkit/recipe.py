"""A recipe is all that decides a training run; these are the named ones."""

from dataclasses import dataclass, replace
from typing import Literal

from hwkit.diffusion import Denoiser, Prediction, Weighting
from hwkit.language import say
from hwkit.schedule import SCHEDULES, Schedule
from hwkit.unet import UNet, UNetConfig


@dataclass(frozen=True)
class Recipe:
    """The defaults are the original's: the student's report that the kit reproduces. ValueError for unfit values."""

    name: str = "original"  # also that of the run's folder
    about: str = "the original's: T = 830, linear, ε, batch 512, 175 epochs; for a GPU"

    model: UNetConfig = UNetConfig()
    T: int = 830  # noise levels
    schedule: Literal["linear", "cosine"] = "linear"
    prediction: Prediction = "epsilon"  # what the network puts out
    weighting: Weighting = "uniform"  # of the squared error over noise levels

    batch_size: int = 512
    epochs: int = 175  # passes over the data, at most
    minutes: float | None = None  # wall-clock bound, to which the learning-rate decay is fitted
    patience: int | None = None  # stop after so many epochs without a better loss
    lr: float = 2e-4  # of AdamW
    muon_lr: float | None = None  # of Muon, which then descends on the convolutions between stem and head
    beta2: float = 0.999  # of AdamW
    warmup: int = 0  # steps over which the learning rate rises from 0
    decay_from: float = 1.0  # part of the run after which the learning rate falls linearly to 0; 1 is never
    clip: float = 1.0  # largest norm of the gradient
    ema: float = 0.999  # largest decay of the weights' moving average (see `ema_decay`)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # of the convolutions; auto: the fastest
    seed: int = 0

    def __post_init__(self):
        for name in ("T", "batch_size", "epochs"):
            if getattr(self, name) < 1:
                text = "{what}: {name} is {value}, but must be at least 1."
                raise ValueError(say(text, what="Recipe", name=name, value=getattr(self, name)))
        for name in ("minutes", "patience", "lr", "muon_lr", "clip"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(say("Recipe: {name} is {value}, but must be more than 0.", name=name, value=value))
        if not self.name or self.name != self.name.strip(". ") or set(self.name) & set("/\\:"):
            raise ValueError(say("Recipe: name is {name!r}, but must be fit for a folder's name.", name=self.name))
        if not 0 <= self.decay_from <= 1 or not 0 <= self.ema < 1 or self.warmup < 0 or self.seed < 0:
            raise ValueError(say("Recipe: needs 0 ≤ decay_from ≤ 1, 0 ≤ ema < 1, warmup ≥ 0 and seed ≥ 0."))

    def make_schedule(self) -> Schedule:
        """The noise schedule that it names."""
        return SCHEDULES[self.schedule](self.T)

    def denoiser(self, model: UNet) -> Denoiser:
        """A network of this recipe as the samplers see it."""
        return Denoiser(model, self.make_schedule(), self.prediction)

    def lr_factor(self, step: int, progress: float) -> float:
        """What `lr` is multiplied with at a step (0, 1, …), when the part `progress` (0 to 1) of the run is done."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        fall = min(1.0, (1 - progress) / (1 - self.decay_from)) if self.decay_from < 1 else 1.0
        return rise * max(fall, 0.0)

    def ema_decay(self, step: int) -> float:
        """min(ema, (1 + n)/(10 + n)) at step n: below `ema`, the average covers the last tenth of the run."""
        return min(self.ema, (1 + step) / (10 + step))


ORIGINAL = Recipe()
# x̂_0 instead of ε̂: the three channels of a grey digit carry independent noise, so two thirds of ε is colour noise,
# which a network must copy pixel by pixel to predict ε, and which x_0 never holds.
CPU = Recipe(
    name="cpu",
    about="digits in 10 minutes without a GPU: x̂_0, min-SNR, 14×14 inside",
    model=UNetConfig(base=32, patch=2, blocks=2, middle_blocks=2),
    prediction="x0",
    weighting="min_snr",
    batch_size=64,
    epochs=1000,
    minutes=10,
    lr=1e-3,
    muon_lr=0.02,
    beta2=0.99,
    warmup=100,
    decay_from=0.3,
    ema=0.9999,
)
LONG = replace(CPU, name="cpu-long", about="cpu, but wider, for hours", model=replace(CPU.model, base=64), minutes=150)
GPU = replace(LONG, name="gpu", about="cpu-long in large batches: minutes of a GPU", batch_size=1024, minutes=15)
SMOKE = replace(
    CPU,
    name="smoke",
    about="seconds, for tests: as cpu, but small; no digits to be expected",
    model=UNetConfig(base=16, patch=2),
    batch_size=32,
    epochs=2,
    minutes=None,
    warmup=10,
    precision="fp32",
)
T1000 = replace(ORIGINAL, name="original-t1000", about="the original with T = 1000, its control", T=1000)
COSINE = replace(ORIGINAL, name="original-cosine", about="the original with the cosine schedule", schedule="cosine")
RECIPES = {recipe.name: recipe for recipe in (ORIGINAL, T1000, COSINE, CPU, LONG, GPU, SMOKE)}

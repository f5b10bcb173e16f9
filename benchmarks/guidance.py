"""How well the kit's weights draw with other weights of the guide and other spacings: `python -m benchmarks.guidance`.

Stochastic DPM-Solver++(2M) throughout. Guided 16 steps cost about what 20 without a guide do.
"""

import sys

from hwkit.measure.curve import measure
from hwkit.measure.score import floor_at
from hwkit.runs.checkpoint import EXPORTED, PRETRAINED, load_denoiser
from hwkit.sampling import Sampler

TRIED = [(20, 1.0, 1.0), (20, 1.0, 1.25), (20, 1.3, 1.0), (20, 1.5, 1.0)]  # steps, weight of the guide, power of times
TRIED += [(16, 1.2, 1.25), (16, 1.3, 1.25), (16, 1.3, 1.5), (16, 1.0, 1.25), (16, 1.0, 1.0)]


def table(n: int, seed: int) -> None:
    """Prints the digit-FID of n images of a seed for each of TRIED, and what as many real digits score."""
    denoise = load_denoiser(PRETRAINED / EXPORTED)
    for steps, guidance, power in TRIED:
        sampler = Sampler("dpm++sde", steps, guidance=guidance, power=power)
        sampler = sampler.resolve(denoise.schedule.T, denoise.guidance)
        point = measure(denoise, sampler, n, seed, batch=100, device="cpu")
        value = f"{point.value:.2f} ± {point.error:.2f}"
        print(f"{steps} steps, weight {guidance}, power {power}: {value}, {point.seconds:.0f} s", flush=True)
    print(f"as many real digits: {floor_at(n):.2f}")


if __name__ == "__main__":
    table(*map(int, sys.argv[1:] or (2_000, 1)))

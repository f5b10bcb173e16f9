"""What draws better after the same short time: `python -m benchmarks.recipes NAME SEED`, or without names all.

Each variant of the recipe `cpu` sees as many images as it would in five minutes on two cores with AVX-512 and bf16, on
one thread. Then digit-FID of 2,000 images without a guide, from the same noise for all.
"""

import sys
import time
from dataclasses import replace

import torch

from hwkit.measure.score import digit_fid
from hwkit.mnist.batches import batches
from hwkit.mnist.folder import load_folder
from hwkit.mnist.sources import prepare
from hwkit.recipe import CPU, Recipe
from hwkit.runs.generate import images
from hwkit.sampling import Sampler
from hwkit.training import new_state, train_epoch

N, BLOCK = 2_000, 100
SAMPLER = Sampler("dpm++sde", 16, guidance=1)


def wide(base: int, blocks: int = 2) -> Recipe:
    return replace(CPU, model=replace(CPU.model, base=base, blocks=blocks, middle_blocks=blocks))


VARIANTS: dict[str, tuple[Recipe, int]] = {  # and the images that it sees
    "32": (CPU, 183_000),
    "48": (wide(48), 107_000),
    "64": (wide(64), 71_000),
    "three-blocks": (wide(32, 3), 129_000),
    "batch-32": (replace(CPU, batch_size=32), 165_000),
    "batch-128": (replace(CPU, batch_size=128), 187_000),
    "batch-256": (replace(CPU, batch_size=256), 190_000),
    "half-lr": (replace(CPU, lr=5e-4, muon_lr=0.01), 183_000),
    "double-lr": (replace(CPU, lr=2e-3, muon_lr=0.04), 183_000),
}


def tried(recipe: Recipe, seen: int, seed: int) -> str:
    recipe = replace(recipe, seed=seed)
    state, steps = new_state(recipe, "cpu", "bf16"), seen // recipe.batch_size
    digits, alpha_bar = load_folder(prepare()), recipe.make_schedule().alpha_bar.float()
    stream = (x_0 for epoch in range(10**6) for x_0 in batches(digits, recipe.batch_size, seed, epoch))
    started = time.monotonic()
    chosen = (x_0 for _, x_0 in zip(range(steps), stream, strict=False))
    for _ in train_epoch(state, recipe, chosen, alpha_bar, lambda: state.step / steps):
        pass
    seconds, denoise = time.monotonic() - started, recipe.denoiser(state.ema)
    blocks = [images(denoise, SAMPLER, 1, range(i, i + BLOCK), precision="bf16") for i in range(1, N, BLOCK)]
    value, error = digit_fid(torch.cat(blocks))
    return f"{seen:,} images in {seconds:.0f} s: digit-FID {value:.2f} ± {error:.2f}"


if __name__ == "__main__":
    torch.set_num_threads(1)
    name, seed = (sys.argv[1], int(sys.argv[2])) if len(sys.argv) > 2 else (None, 0)
    for each, (recipe, seen) in VARIANTS.items():
        if name in (None, each):
            print(each, "seed", seed, tried(recipe, seen, seed), flush=True)

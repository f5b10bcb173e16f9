"""What a GPU makes of the kit: `python -m benchmarks.gpu`. Training steps a second, by recipe, batch, setting.

The rows with `--compile` come last. A setting that fails is named, and what follows is not measured: after an error on
the device nothing in this process can go on.
"""

import time
from dataclasses import replace

import torch

from hwkit.recipe import LONG, ORIGINAL, Recipe
from hwkit.runs.speed import LAYOUTS, Setting, prepared_state
from hwkit.training import training_step

WARM_UP, STEPS = 8, 60
BATCHES = {LONG: (64, 256, 512, 1024), ORIGINAL: (128, 512)}


def steps_a_second(recipe: Recipe, setting: Setting, compile: bool) -> float:
    """Of a network of its own, after WARM_UP steps, on digits that are noise."""
    state, device = prepared_state(recipe, torch.device("cuda"), setting, compile), torch.device("cuda")
    alpha_bar = recipe.make_schedule().alpha_bar.to(device, torch.float32)
    x_0 = torch.rand(recipe.batch_size, 3, 28, 28, device=device) * 2 - 1
    for step in range(WARM_UP + STEPS):
        if step == WARM_UP:
            torch.cuda.synchronize()
            began = time.monotonic()
        training_step(state, recipe, x_0, alpha_bar, progress=0.0)
    torch.cuda.synchronize()
    return STEPS / (time.monotonic() - began)


def main() -> None:
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")  # both as `runs.run.train` sets them
    print(torch.cuda.get_device_name(), torch.__version__, "\n| recipe | batch | setting | steps/s | images/s |")
    precisions = ("bf16", "fp16", "fp32") if torch.cuda.get_device_capability()[0] >= 8 else ("fp16", "fp32")
    for compile in (False, True):
        for base, batches in BATCHES.items():
            for batch in batches if not compile else batches[-1:]:
                for setting in (Setting(precision, layout) for precision in precisions for layout in LAYOUTS):
                    recipe = replace(base, batch_size=batch)
                    name = f"{setting.precision} {setting.layout}" + " compiled" * compile
                    try:
                        rate = steps_a_second(recipe, setting, compile)
                    except RuntimeError as error:
                        raise SystemExit(f"{base.name}, {batch}, {name}: {error}") from error
                    print(f"| {base.name} | {batch} | {name} | {rate:.1f} | {rate * batch:,.0f} |", flush=True)


if __name__ == "__main__":
    main()

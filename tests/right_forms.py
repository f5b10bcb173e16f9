"""Right answers to each task of the course, in other forms than the kit's, as students write them."""

import math

import numpy as np
import scipy.linalg
import torch
from torch import nn
from torch.nn import functional as F

from hwkit.diffusion import predict_x0_eps, q_sample
from hwkit.solvers import dpm_solver_step, log_snr, unipc_step


def table_by_loop(beta):
    values = [torch.tensor(1.0, dtype=torch.float64)]
    for b in beta:
        values.append(values[-1] * (1 - b))
    return torch.stack(values)


def table_by_logarithm(beta):
    return F.pad((1 - beta).log().cumsum(0), (1, 0)).exp()


def table_by_numpy(beta):
    return torch.from_numpy(np.concatenate([[1.0], np.cumprod(1 - beta.numpy())]))


def q_by_tensor_roots(x_0, alpha_bar_t, eps):
    a = torch.as_tensor(alpha_bar_t)
    return torch.sqrt(1 - a) * eps + torch.sqrt(a) * x_0


def q_by_einsum(x_0, alpha_bar_t, eps):
    a = torch.as_tensor(alpha_bar_t, dtype=x_0.dtype).flatten().expand(len(x_0))
    return torch.einsum("b,bchw->bchw", a.sqrt(), x_0) + torch.einsum("b,bchw->bchw", (1 - a).sqrt(), eps)


def q_in_float64(x_0, alpha_bar_t, eps):
    angle = torch.as_tensor(alpha_bar_t, dtype=torch.float64).sqrt().arccos()
    return angle.cos() * x_0.double() + angle.sin() * eps.double()


def target_from_a_dict(x_0, alpha_bar_t, eps, prediction):
    s, n = alpha_bar_t**0.5, (1 - alpha_bar_t) ** 0.5
    return {"epsilon": eps, "x0": x_0, "v": s * eps - n * x_0}[prediction]


def target_from_x_t(x_0, alpha_bar_t, eps, prediction):
    x_t = q_sample(x_0, alpha_bar_t, eps)
    v = (alpha_bar_t**0.5 * x_t - x_0) / (1 - alpha_bar_t) ** 0.5
    return v if prediction == "v" else (eps if prediction == "epsilon" else x_0.clone())


def target_by_factors(x_0, alpha_bar_t, eps, prediction):
    a = torch.as_tensor(alpha_bar_t)
    on_eps, on_x = {"epsilon": (1, 0), "x0": (0, 1), "v": (a.sqrt(), -(1 - a).sqrt())}[prediction]
    return on_eps * eps + on_x * x_0


def weight_by_minimum(alpha_bar_t, prediction, weighting, gamma=5.0):
    snr = alpha_bar_t / (1 - alpha_bar_t)
    if weighting == "uniform":
        return snr**0
    capped = torch.minimum(snr, torch.full_like(snr, gamma))
    return capped if prediction == "x0" else capped / (snr + (prediction == "v"))


def weight_by_where(alpha_bar_t, prediction, weighting, gamma=5.0):
    if weighting == "uniform":
        return torch.full(alpha_bar_t.shape, 1.0)
    a = alpha_bar_t
    capped = torch.where(a > gamma * (1 - a), gamma, a / (1 - a))
    return {"epsilon": capped * (1 - a) / a, "x0": capped, "v": capped * (1 - a)}[prediction]


def weight_in_float32(alpha_bar_t, prediction, weighting, gamma=5.0):
    snr = 1 / (1 / alpha_bar_t.float() - 1)
    low = snr.clamp(max=gamma)
    if weighting != "min_snr":
        return torch.ones(snr.shape)
    return low / (snr if prediction == "epsilon" else 1 if prediction == "x0" else 1 + snr)


def loss_by_mse_loss(model, x_0, t, eps, alpha_bar, prediction="epsilon", weighting="uniform"):
    a = alpha_bar[t].view(-1, 1, 1, 1)
    output = model(q_by_tensor_roots(x_0, a, eps), t)
    error = F.mse_loss(output, target_by_factors(x_0, a, eps, prediction), reduction="none").mean(dim=(1, 2, 3))
    return (weight_by_minimum(a.flatten(), prediction, weighting) * error).mean()


def loss_by_einsum(model, x_0, t, eps, alpha_bar, prediction="epsilon", weighting="uniform"):
    a = alpha_bar.gather(0, t).reshape(len(t), 1, 1, 1)
    difference = target_from_a_dict(x_0, a, eps, prediction) - model(q_sample(x_0, a, eps), t)
    weight = weight_by_where(a.flatten(), prediction, weighting)
    return torch.einsum("b,bchw,bchw->", weight, difference, difference) / x_0.numel()


def loss_by_loop(model, x_0, t, eps, alpha_bar, prediction="epsilon", weighting="uniform"):
    total = 0.0
    for i in range(len(x_0)):
        a = alpha_bar[t[i]].double()
        output = model(q_sample(x_0[i : i + 1], a.item(), eps[i : i + 1]), t[i : i + 1])[0].double()
        error = (output - target_from_a_dict(x_0[i], a.item(), eps[i], prediction)).square().mean()
        total = total + weight_by_minimum(a, prediction, weighting) * error / len(x_0)
    return total


def embedding_by_power(t, dim):
    half = dim // 2
    angles = t.unsqueeze(1) / 10_000 ** (torch.arange(half) / half)
    return torch.hstack([torch.sin(angles), torch.cos(angles)])


def embedding_by_numpy(t, dim):
    angles = np.outer(t.numpy().astype(float), np.logspace(0, -4, dim // 2, endpoint=False))
    return torch.from_numpy(np.concatenate([np.sin(angles), np.cos(angles)], axis=1)).float()


def embedding_by_columns(t, dim):
    half = dim // 2
    columns = [t.double() * math.exp(-math.log(10_000) * i / half) for i in range(half)]
    return torch.stack([c.sin() for c in columns] + [c.cos() for c in columns], dim=1)


class Block(nn.Module):
    def __init__(self, c_in, c_out, time_dim):
        super().__init__()
        self.skip = nn.Conv2d(c_in, c_out, kernel_size=1) if c_in != c_out else nn.Sequential()
        self.time = nn.Linear(time_dim, c_out)
        self.norm1, self.norm2 = nn.GroupNorm(8, c_in), nn.GroupNorm(8, c_out)
        self.conv1 = nn.Conv2d(c_in, c_out, kernel_size=3, padding="same")
        self.conv2 = nn.Conv2d(c_out, c_out, kernel_size=3, padding=1)
        with torch.no_grad():
            self.conv2.weight.fill_(0)
            self.conv2.bias.fill_(0)

    def forward(self, x, emb):
        start = self.skip(x)
        h = self.norm1(x)
        h = self.conv1(h * torch.sigmoid(h))
        h = h + self.time(emb).unsqueeze(-1).unsqueeze(-1)
        h = nn.SiLU()(self.norm2(h))
        return start + self.conv2(h)


class BlockByFunctions(Block):
    def forward(self, x, emb):
        h = F.group_norm(x, 8, self.norm1.weight, self.norm1.bias)
        h = F.conv2d(F.silu(h), self.conv1.weight, self.conv1.bias, padding=1)
        b, c = h.shape[:2]
        h = h + F.linear(emb, self.time.weight, self.time.bias).view(b, c, 1, 1)
        h = F.conv2d(F.silu(F.group_norm(h, 8, self.norm2.weight, self.norm2.bias)), self.conv2.weight, padding=1)
        return h + self.conv2.bias[None, :, None, None] + self.skip(x)


class BlockInFloat64(Block):
    def forward(self, x, emb):
        self.double()
        return super().forward(x.double(), emb.double())


def way_by_zip(unet, x, t):
    p, emb = unet.config.patch, unet.time(t)
    h = unet.stem(nn.PixelUnshuffle(p)(x))
    outs = []
    for level in unet.down:
        outs.append(h := level(h, emb))
    h = unet.middle(h, emb)
    for level, skip in zip(unet.up, reversed(outs), strict=True):
        h = level(h, skip, emb)
    return nn.PixelShuffle(p)(unet.head(h))


def way_by_recursion(unet, x, t):
    emb, p = unet.time(t), unet.config.patch

    def below(h, level):
        if level == len(unet.down):
            return unet.middle(h, emb)
        skip = unet.down[level](h, emb)
        return unet.up[len(unet.down) - 1 - level](below(skip, level + 1), skip, emb)

    b, c, height, width = x.shape
    folded = x.reshape(b, c, height // p, p, width // p, p).permute(0, 1, 3, 5, 2, 4)
    h = unet.head(below(unet.stem(folded.reshape(b, c * p * p, height // p, width // p)), 0))
    h = h.reshape(b, c, p, p, height // p, width // p).permute(0, 1, 4, 2, 5, 3)
    return h.reshape(b, c, height, width)


def way_by_image(unet, x, t):
    return torch.cat([way_by_zip(unet, x[i : i + 1], t[i : i + 1]) for i in range(len(x))])


def draw_by_shape(x_0, T):
    eps = torch.randn(x_0.shape)
    return 1 + torch.randint(T, x_0.shape[:1]), eps


def draw_by_rand(x_0, T):
    return torch.rand(len(x_0)).mul(T).long().add(1), torch.normal(0.0, 1.0, x_0.shape)


def draw_by_numpy(x_0, T):
    rng = np.random.default_rng()
    return torch.from_numpy(rng.integers(1, T, len(x_0), endpoint=True)), torch.from_numpy(rng.normal(size=x_0.shape))


def update_with_zero_grad_last(model, ema, optimizer, loss, clip=1.0, decay=0.999):
    loss.backward()
    length = torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    for p, q in zip(ema.parameters(), model.parameters(), strict=True):
        p.data = decay * p.data + (1 - decay) * q.data
    return length


def update_clipped_by_hand(model, ema, optimizer, loss, clip=1.0, decay=0.999):
    optimizer.zero_grad()
    loss.backward()
    norm = sum((p.grad**2).sum() for p in model.parameters()).sqrt()
    for p in model.parameters():
        p.grad *= min(1.0, clip / norm.item())
    optimizer.step()
    new, old = model.state_dict(), ema.state_dict()
    ema.load_state_dict({name: old[name] + (1 - decay) * (new[name] - old[name]) for name in old})
    return norm


def update_clipped_by_the_optimizers_group(model, ema, optimizer, loss, clip=1.0, decay=0.999):
    optimizer.zero_grad()
    loss.backward()
    length = nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], clip)
    optimizer.step()
    with torch.no_grad():
        for average, weight in zip(ema.parameters(), model.parameters(), strict=True):
            average.mul_(decay).add_(weight, alpha=1 - decay)
    return length


@torch.enable_grad()
def update_by_autograd(model, ema, optimizer, loss, clip=1.0, decay=0.999):
    weights = list(model.parameters())
    for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
        weight.grad = gradient
    length = nn.utils.clip_grad_norm_(weights, clip)
    optimizer.step()
    with torch.no_grad():
        for average, weight in zip(ema.parameters(), weights, strict=True):
            average.mul_(decay).add_(weight, alpha=1 - decay)
    return length


def predict_by_cases(output, x_t, alpha_bar_t, prediction):
    a = torch.as_tensor(alpha_bar_t)
    if prediction == "x0":
        return output, (x_t / a.sqrt() - output) / (1 / a - 1).sqrt()
    if prediction == "epsilon":
        return x_t / a.sqrt() - (1 / a - 1).sqrt() * output, output
    return a.sqrt() * x_t - (1 - a).sqrt() * output, a.sqrt() * output + (1 - a).sqrt() * x_t


def predict_image_first(output, x_t, alpha_bar_t, prediction):
    s, n = alpha_bar_t**0.5, (1 - alpha_bar_t) ** 0.5
    x_0 = {"x0": output, "epsilon": (x_t - n * output) / s, "v": s * x_t - n * output}[prediction]
    return [x_0, output if prediction == "epsilon" else (x_t - s * x_0) / n]


def predict_in_float64(output, x_t, alpha_bar_t, prediction):
    angle = torch.as_tensor(alpha_bar_t, dtype=torch.float64).sqrt().arccos()
    x, o = x_t.double(), output.double()
    if prediction == "v":
        return x * angle.cos() - o * angle.sin(), x * angle.sin() + o * angle.cos()
    return (
        ((x - angle.sin() * o) / angle.cos(), o)
        if prediction == "epsilon"
        else (o, (x - angle.cos() * o) / angle.sin())
    )


def denoiser_as_a_closure(model, schedule, prediction, clip=True):
    def denoise(x_t, t):
        with torch.no_grad():
            a = float(schedule.alpha_bar[t])
            x_0, eps = predict_x0_eps(model(x_t, torch.tensor([t] * len(x_t))), x_t, a, prediction)
            if not clip:
                return x_0, eps
            x_0 = torch.clip(x_0, min=-1, max=1)
            return x_0, (x_t - math.sqrt(a) * x_0) / math.sqrt(1 - a)

    return denoise


class DenoiserWithForward(nn.Module):
    def __init__(self, model, schedule, prediction, clip=True):
        super().__init__()
        self.net, self.table, self.kind, self.limit = model, schedule.alpha_bar, prediction, clip

    def forward(self, x_t, t):
        a = self.table[t].to(x_t.dtype)
        x_0, eps = predict_by_cases(self.net(x_t, x_t.new_full((len(x_t),), t)).detach(), x_t, a, self.kind)
        if self.limit:
            x_0 = torch.minimum(torch.maximum(x_0, torch.tensor(-1.0)), torch.tensor(1.0))
            eps = predict_by_cases(x_0, x_t, a, "x0")[1]
        return x_0, eps


class DenoiserInInferenceMode:
    def __init__(self, model, schedule, prediction, clip=True):
        self.parts = model, schedule.alpha_bar.tolist(), prediction, clip

    @torch.inference_mode()
    def __call__(self, x_t, t):
        model, table, prediction, clip = self.parts
        x_0, eps = predict_in_float64(model(x_t, torch.ones(len(x_t)) * t), x_t, table[t], prediction)
        return predict_in_float64(x_0.clamp(-1, 1), x_t, table[t], "x0") if clip else (x_0, eps)


def ddpm_from_eps(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise, variance="posterior"):
    variances = {"beta": 1 - alpha_bar_t / alpha_bar_s}
    variances["posterior"] = variances["beta"] * (1 - alpha_bar_s) / (1 - alpha_bar_t)
    added = math.sqrt(variances[variance]) * noise if alpha_bar_s < 1 else 0
    return mean_by_brackets(x_t, eps_hat, alpha_bar_t, alpha_bar_s) + added


def ddpm_in_float64(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise, variance="posterior"):
    a, s = torch.tensor([alpha_bar_t, alpha_bar_s], dtype=torch.float64)
    alpha = a / s
    on_x0, on_x = s.sqrt() * (1 - alpha) / (1 - a), alpha.sqrt() * (1 - s) / (1 - a)
    spread = (1 - alpha) * ((1 - s) / (1 - a) if variance == "posterior" else float(alpha_bar_s != 1))
    return on_x0 * x0_hat.double() + on_x * x_t.double() + spread.sqrt() * noise.double()


def ddpm_like_ddim(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise, variance="posterior"):
    tilde = (1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s)
    mean = alpha_bar_s**0.5 * x0_hat + (1 - alpha_bar_s - tilde) ** 0.5 * eps_hat
    added = tilde if variance == "posterior" else (1 - alpha_bar_t / alpha_bar_s) * (alpha_bar_s < 1)
    return torch.add(mean, noise, alpha=np.sqrt(added))


def mean_by_brackets(x_t, eps_hat, alpha_bar_t, alpha_bar_s):
    beta = 1 - alpha_bar_t / alpha_bar_s
    return 1 / math.sqrt(1 - beta) * (x_t - beta / math.sqrt(1 - alpha_bar_t) * eps_hat)


def mean_from_x0(x_t, eps_hat, alpha_bar_t, alpha_bar_s):
    x_0 = (x_t.double() - (1 - alpha_bar_t) ** 0.5 * eps_hat) / alpha_bar_t**0.5
    alpha = alpha_bar_t / alpha_bar_s
    on_x0, on_x = alpha_bar_s**0.5 * (1 - alpha), alpha**0.5 * (1 - alpha_bar_s)
    return (on_x0 * x_0 + on_x * x_t) / (1 - alpha_bar_t)


def mean_by_two_terms(x_t, eps_hat, alpha_bar_t, alpha_bar_s):
    a, s = torch.tensor(alpha_bar_t), torch.tensor(alpha_bar_s)
    return (s / a).sqrt() * x_t - (s - a) / (s * a).sqrt() / (1 - a).sqrt() * eps_hat


def ddim_from_x_t(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise=None, eta=0.0):
    eps = (x_t - alpha_bar_t**0.5 * x0_hat) / (1 - alpha_bar_t) ** 0.5
    variance = eta**2 * (1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s)
    x_s = math.sqrt(alpha_bar_s) * x0_hat + math.sqrt(1 - alpha_bar_s - variance) * eps
    return x_s if noise is None else x_s + math.sqrt(variance) * noise


def ddim_by_tensors(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise=None, eta=0.0):
    a, s = torch.tensor(alpha_bar_t).double(), torch.tensor(alpha_bar_s).double()
    sigma = eta * torch.sqrt((1 - s) / (1 - a)) * torch.sqrt(1 - a / s)
    noise = torch.zeros_like(x_t) if noise is None else noise
    return (s.sqrt() * x0_hat + (1 - s - sigma.square()).clamp(min=0).sqrt() * eps_hat + sigma * noise).float()


def ddim_from_x_t_and_eps(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise=None, eta=0.0):
    sigma = eta * ((1 - alpha_bar_s) * (alpha_bar_s - alpha_bar_t) / (1 - alpha_bar_t) / alpha_bar_s) ** 0.5
    x_0 = (x_t - (1 - alpha_bar_t) ** 0.5 * eps_hat) / alpha_bar_t**0.5
    x_s = alpha_bar_s**0.5 * x_0 + (1 - alpha_bar_s - sigma**2) ** 0.5 * eps_hat
    return x_s + sigma * noise if eta else x_s


def times_by_round(T, steps):
    return [round(T * (1 - i / steps)) for i in range(steps + 1)]


def times_by_numpy(T, steps):
    return np.linspace(T, 0, steps + 1).round().astype(int)


def times_from_below(T, steps):
    return torch.linspace(0, T, steps + 1).add(0.5).int().flip(0)


def second_order_of_the_kit(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise=None, past=()):
    return dpm_solver_step(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, past=past)


def second_order_by_unipc(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise=None, past=()):
    return unipc_step(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, past=past)


def second_order_in_the_angle(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise=None, past=()):
    """x̂_0 at mid-step along its slope in the angle whose cosine is √ᾱ, not in λ."""
    here, there = math.acos(alpha_bar_t**0.5), math.acos(alpha_bar_s**0.5)
    for alpha_bar_r, before in past[-1:]:
        x0_hat = x0_hat + (x0_hat - before) / (here - math.acos(alpha_bar_r**0.5)) * (there - here) / 2
    eps = (x_t - math.cos(here) * x0_hat) / math.sin(here)
    return math.cos(there) * x0_hat + math.sin(there) * eps


def second_order_by_the_step_before_last(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise=None, past=()):
    if past and alpha_bar_s != 1:
        alpha_bar_r, before = past[0]
        slope = (x0_hat - before) / (log_snr(alpha_bar_t) - log_snr(alpha_bar_r))
        x0_hat = x0_hat + slope * (log_snr(alpha_bar_s) - log_snr(alpha_bar_t)) / 2
    return ddim_from_x_t(x_t, x0_hat, None, alpha_bar_t, alpha_bar_s)


def nodes_by_round(T, count=8):
    return tuple(round(i * T / (count - 1)) for i in reversed(range(count)))


def nodes_by_numpy(T, count=8):
    return np.rint(np.linspace(T, 0, count)).astype(int).tolist()


def nodes_by_tensors(T, count=8):
    return list(torch.linspace(T, 0, count).round().int())


def nodes_from_below(T, count=8):
    return torch.linspace(0, T, count).round().long().flip(0)


def statistics_by_hand(features):
    mu = features.sum(0) / len(features)
    z = features - mu
    return mu, z.T @ z / (len(features) - 1)


def statistics_by_torch(features):
    x = torch.from_numpy(features)
    return x.mean(dim=0), torch.cov(x.T)


def statistics_by_loop(features):
    mu = np.array([features[:, j].mean() for j in range(features.shape[1])])
    return mu, sum(np.outer(x - mu, x - mu) for x in features) / (len(features) - 1)


def frechet_by_eigenvalues(mu1, sigma1, mu2, sigma2):
    roots = np.sqrt(np.linalg.eigvals(sigma1 @ sigma2).real.clip(0))
    return ((mu1 - mu2) ** 2).sum() + np.trace(sigma1 + sigma2) - 2 * roots.sum()


def frechet_by_sqrtm(mu1, sigma1, mu2, sigma2):
    root = scipy.linalg.sqrtm(sigma1 @ sigma2).real
    return np.linalg.norm(mu1 - mu2) ** 2 + np.trace(sigma1 + sigma2 - 2 * root)


def frechet_by_singular_values(mu1, sigma1, mu2, sigma2):
    halves = []
    for sigma in (sigma1, sigma2):
        values, vectors = np.linalg.eigh(sigma)
        halves.append(vectors * np.sqrt(values.clip(0)))
    cross = torch.linalg.svdvals(torch.from_numpy(halves[0].T @ halves[1])).sum()
    return torch.tensor((mu1 - mu2) @ (mu1 - mu2) + np.trace(sigma1) + np.trace(sigma2)) - 2 * cross


RIGHT = {
    "alpha_bar_table": (table_by_loop, table_by_logarithm, table_by_numpy),
    "q_sample": (q_by_tensor_roots, q_by_einsum, q_in_float64),
    "target": (target_from_a_dict, target_from_x_t, target_by_factors),
    "loss_weight": (weight_by_minimum, weight_by_where, weight_in_float32),
    "diffusion_loss": (loss_by_mse_loss, loss_by_einsum, loss_by_loop),
    "time_embedding": (embedding_by_power, embedding_by_numpy, embedding_by_columns),
    "ResBlock": (Block, BlockByFunctions, BlockInFloat64),
    "unet_forward": (way_by_zip, way_by_recursion, way_by_image),
    "draw_t_and_eps": (draw_by_shape, draw_by_rand, draw_by_numpy),
    "update_weights": (
        update_with_zero_grad_last,
        update_clipped_by_hand,
        update_clipped_by_the_optimizers_group,
        update_by_autograd,
    ),
    "predict_x0_eps": (predict_by_cases, predict_image_first, predict_in_float64),
    "Denoiser": (denoiser_as_a_closure, DenoiserWithForward, DenoiserInInferenceMode),
    "ddpm_step": (ddpm_from_eps, ddpm_in_float64, ddpm_like_ddim),
    "ddpm_mean_eps": (mean_by_brackets, mean_from_x0, mean_by_two_terms),
    "ddim_step": (ddim_from_x_t, ddim_by_tensors, ddim_from_x_t_and_eps),
    "times": (times_by_round, times_by_numpy, times_from_below),
    "second_order_step": (
        second_order_of_the_kit,
        second_order_by_unipc,
        second_order_in_the_angle,
        second_order_by_the_step_before_last,
    ),
    "nodes": (nodes_by_round, nodes_by_numpy, nodes_by_tensors, nodes_from_below),
    "statistics": (statistics_by_hand, statistics_by_torch, statistics_by_loop),
    "frechet_distance": (frechet_by_eigenvalues, frechet_by_sqrtm, frechet_by_singular_values),
}

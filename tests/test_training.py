"""One step of training: what is drawn, what is descended on, in every precision and over parts; recipes and Muon."""

import math
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import TINY, vivid_unet

from hwkit.diffusion import diffusion_loss, loss_weight, q_sample
from hwkit.muon import Muon, orthogonalize
from hwkit.recipe import CPU, LONG, ORIGINAL, RECIPES, SMOKE, Recipe
from hwkit.runs.speed import best_device
from hwkit.training import draw, new_state, train_epoch, training_step

ALPHA_BAR = TINY.make_schedule().alpha_bar.float()
PRECISIONS = ("fp32", "bf16", "fp16")


@pytest.fixture(scope="module")
def x_0(digits) -> torch.Tensor:
    """Eight digits as the network sees them."""
    return (digits[:8].float() / 127.5 - 1).expand(-1, 3, -1, -1)


def vivid_state(recipe=TINY, precision="fp32"):
    """A state whose network has no layer of zeros, so that every weight has a gradient."""
    state = new_state(recipe, "cpu", precision)
    for network in (state.model, state.ema):
        network.load_state_dict(vivid_unet(recipe.model).state_dict())
    return state


def weights(network) -> list[torch.Tensor]:
    return [p.detach().clone() for p in network.parameters()]


def unmoved(network, before) -> bool:
    return all(map(torch.equal, network.parameters(), before))


def finite(network) -> bool:
    return all(p.isfinite().all() for p in network.parameters())


def moments(state) -> list[torch.Tensor]:
    """The averages that the optimizers keep of the gradients, one for each weight that has moved."""
    return [
        values[name]
        for optimizer in state.optimizers
        for values in optimizer.state.values()
        for name in ("exp_avg", "momentum")
        if name in values
    ]


# What is drawn


def test_times_from_1_to_T_are_trained_and_no_others():
    x_0 = torch.zeros(1, 1, 1, 1)
    t = torch.cat([draw(replace(TINY, T=7, batch_size=64), step, x_0)[0] for step in range(200)])
    counts = torch.bincount(t, minlength=8)
    assert len(counts) == 8 and counts[0] == 0
    expected = 64 * 200 / 7
    assert ((counts[1:] - expected).abs() < 5 * math.sqrt(expected)).all(), counts
    assert (draw(replace(TINY, T=1), 0, x_0)[0] == 1).all()
    assert torch.cat([draw(ORIGINAL, step, x_0)[0] for step in range(20)]).max() == 830


def test_the_draw_depends_on_seed_and_step_alone():
    x_0 = torch.zeros(16, 3, 4, 4)
    torch.manual_seed(1)
    t, eps = draw(TINY, 5, x_0)
    torch.manual_seed(2)
    again = draw(TINY, 5, x_0 + 1)
    assert torch.equal(again[0], t) and torch.equal(again[1], eps)
    for seed, step in ((0, 6), (0, 4), (1, 5), (1, 4), (4, 1), (2, 3), (5, 0)):  # the diagonals, too
        other = draw(replace(TINY, seed=seed), step, x_0)
        assert not torch.equal(other[0], t) and not torch.isclose(other[1], eps).any()


def test_the_noise_is_standard_normal():
    eps = torch.cat([draw(TINY, step, torch.zeros(16, 3, 28, 28))[1] for step in range(4)]).double()
    n = eps.numel()
    assert abs(eps.mean()) < 5 / math.sqrt(n) and abs(eps.var() - 1) < 5 * math.sqrt(2 / n)


def test_a_new_state_is_a_function_of_the_seed_and_disturbs_nobody():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    state = new_state(TINY, "cpu")
    assert torch.equal(torch.rand(3), expected)
    assert unmoved(new_state(TINY, "cpu").model, weights(state.model))
    other = new_state(replace(TINY, seed=1), "cpu").model
    assert not torch.equal(other.stem.weight, state.model.stem.weight)
    assert unmoved(state.ema, weights(state.model)) and not any(p.requires_grad for p in state.ema.parameters())


# One step


def test_a_step_shows_the_network_noisy_images_at_drawn_times_and_gives_the_papers_loss(x_0):
    state, seen = vivid_state(), []

    def spy(x_t, t):
        seen.append((x_t, t, state.model(x_t, t)))
        return seen[-1][2]

    state.forward, state.step = spy, 7
    loss = training_step(state, TINY, x_0, ALPHA_BAR, 0.5)
    [(x_t, t, output)] = seen
    expected_t, eps = draw(TINY, 7, x_0)
    alpha_bar_t = TINY.make_schedule().alpha_bar[expected_t][:, None, None, None]
    assert torch.equal(t, expected_t) and state.step == 8
    torch.testing.assert_close(x_t.double(), q_sample(x_0.double(), alpha_bar_t, eps.double()), atol=1e-5, rtol=0)
    error = loss_weight(alpha_bar_t, "x0", "min_snr") * (output.double() - x_0) ** 2
    assert loss.item() == pytest.approx(error.mean().item(), rel=1e-5) and not loss.requires_grad


def test_the_ema_is_the_average_of_the_weights_with_the_decay_of_the_recipe(x_0):
    recipe = replace(TINY, ema=0.4)
    state = vivid_state(recipe)
    expected = [w.double() for w in weights(state.model)]
    for n in range(6):
        training_step(state, recipe, x_0, ALPHA_BAR, 0.0)
        decay = min(0.4, (1 + n) / (10 + n))
        expected = [decay * e + (1 - decay) * w.double() for e, w in zip(expected, weights(state.model), strict=True)]
    for e, found in zip(expected, state.ema.parameters(), strict=True):
        torch.testing.assert_close(found.double(), e, atol=1e-6, rtol=0)
    assert not unmoved(state.ema, weights(state.model))


def test_the_learning_rate_is_that_of_the_recipe_at_every_step(x_0):
    recipe, seen = replace(TINY, warmup=4, decay_from=0.5), []
    state = new_state(recipe, "cpu")
    for progress in (0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0):
        training_step(state, recipe, x_0, ALPHA_BAR, progress)
        seen.append([group["lr"] for optimizer in state.optimizers for group in optimizer.param_groups])
    factors = [1 / 4, 2 / 4, 3 / 4, 1, 1, 0.5, 0]
    assert seen == [pytest.approx([factor * recipe.lr, factor * recipe.muon_lr]) for factor in factors]


def test_a_learning_rate_of_zero_moves_nothing(x_0):
    state = vivid_state()
    before = weights(state.model)
    training_step(state, TINY, x_0, ALPHA_BAR, 1.0)
    assert unmoved(state.model, before)
    training_step(state, TINY, x_0, ALPHA_BAR, 0.9)
    assert not any(torch.equal(p, b) for p, b in zip(state.model.parameters(), before, strict=True))


@pytest.mark.parametrize("muon_lr", [None, 0.02])
def test_every_weight_has_one_optimizer(muon_lr):
    state = new_state(replace(CPU, muon_lr=muon_lr), "cpu")
    held = [id(p) for optimizer in state.optimizers for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in state.model.parameters())
    adamw, *others = state.optimizers
    assert isinstance(adamw, torch.optim.AdamW) and adamw.defaults["betas"] == (0.9, CPU.beta2)
    assert [type(optimizer) for optimizer in others] == ([Muon] if muon_lr else [])
    for optimizer in others:
        assert all(p.ndim == 4 for p in optimizer.param_groups[0]["params"])
        outer = [*state.model.stem.parameters(), *state.model.head.parameters(), *state.model.time.parameters()]
        assert not {id(p) for p in outer} & {id(p) for p in optimizer.param_groups[0]["params"]}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("clip", [1e-3, 1e3])
def test_the_gradient_is_clipped_to_its_norm(x_0, clip, precision):
    """AdamW's first average is a tenth of the gradient that it was given: unscaled, in fp16, before it is clipped."""
    recipe = replace(TINY, clip=clip, muon_lr=None)
    state = vivid_state(recipe, precision)
    training_step(state, recipe, x_0, ALPHA_BAR, 0.0)
    norm = 10 * torch.cat([average.flatten() for average in moments(state)]).norm().item()
    reference = vivid_state(recipe).model
    diffusion_loss(reference, x_0, *draw(recipe, 0, x_0), ALPHA_BAR, "x0", "min_snr").backward()
    true = torch.cat([p.grad.flatten() for p in reference.parameters()]).norm().item()
    assert norm == pytest.approx(min(clip, true), rel=1e-3 if precision == "fp32" else 0.05) and 0.01 < true < 1e3


# Precisions


def test_a_scaler_works_in_fp16_and_in_no_other_precision():
    assert [new_state(TINY, "cpu", precision).scaler.is_enabled() for precision in PRECISIONS] == [False, False, True]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_computes_convolutions_and_keeps_weights_in_float32(x_0, precision):
    state, seen = vivid_state(precision=precision), []
    state.model.stem.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    loss = training_step(state, TINY, x_0, ALPHA_BAR, 0.0)
    assert seen == [{"bf16": torch.bfloat16, "fp16": torch.float16}[precision]]
    assert {p.dtype for p in (*state.model.parameters(), *state.ema.parameters())} == {torch.float32}
    full = training_step(vivid_state(), TINY, x_0, ALPHA_BAR, 0.0)
    assert loss.item() == pytest.approx(full.item(), rel=0.02) and loss.item() != full.item()


OVERFLOWS = pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
PARTS = pytest.mark.parametrize(
    "part",
    [lambda model: model.stem.bias, lambda model: model.middle.blocks[0].conv1.weight],
    ids=["a weight of AdamW's", "a weight of Muon's"],
)


@OVERFLOWS
@PARTS
def test_in_fp16_one_overflow_anywhere_holds_all_optimizers_back_for_this_step(x_0, value, part):
    """The scaler alone would hold back the optimizer that saw it, and the clip spread it to the other one."""
    state = vivid_state(precision="fp16")
    training_step(state, TINY, x_0, ALPHA_BAR, 0.0)
    before, averages, scale = weights(state.model), [m.clone() for m in moments(state)], state.scaler.get_scale()
    hook = part(state.model).register_hook(lambda gradient: torch.full_like(gradient, value))
    loss = training_step(state, TINY, x_0, ALPHA_BAR, 0.0)
    hook.remove()
    assert unmoved(state.model, before) and all(map(torch.equal, moments(state), averages))
    assert state.scaler.get_scale() == scale / 2 and loss.isfinite() and finite(state.ema) and state.step == 2
    assert training_step(state, TINY, x_0, ALPHA_BAR, 0.0).isfinite()
    assert finite(state.model) and not any(map(torch.equal, weights(state.model), before)), "the next step is taken"
    assert state.scaler.get_scale() == scale / 2


@OVERFLOWS
@PARTS
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_in_other_precisions_a_gradient_that_is_not_finite_makes_the_loss_nan(x_0, value, part, precision):
    """There no scale is to blame. Whoever reads the loss stops before anything is saved."""
    state = vivid_state(precision=precision)
    part(state.model).register_hook(lambda gradient: torch.full_like(gradient, value))
    assert training_step(state, TINY, x_0, ALPHA_BAR, 0.0).isnan()


def test_a_step_in_fp16_descends_as_one_in_fp32(x_0):
    """But for rounding: the scale leaves no trace."""
    recipe, moved = replace(TINY, lr=1e-4, muon_lr=None, warmup=0), {}
    for precision in ("fp32", "fp16"):
        state = vivid_state(recipe, precision)
        for _ in range(3):
            training_step(state, recipe, x_0, ALPHA_BAR, 0.0)
        moved[precision] = torch.cat([m.flatten() for m in moments(state)])
    cosine = torch.nn.functional.cosine_similarity(moved["fp32"], moved["fp16"], dim=0)
    assert cosine > 0.99 and moved["fp16"].norm() == pytest.approx(moved["fp32"].norm().item(), rel=0.05)


# Parts of a batch, one for each of several processes


@pytest.mark.parametrize("batch, cuts", [(33, (0, 16, 33)), (8, (0, 4, 8)), (7, (0, 2, 4, 7))])
def test_the_mean_over_the_parts_is_the_batch(digits, batch, cuts):
    """Losses and gradients, also where parts differ by an image: each counts as much as it holds."""
    recipe = replace(TINY, batch_size=batch, clip=1e9)
    images = (digits[:batch].float() / 127.5 - 1).expand(-1, 3, -1, -1)

    def loss_and_gradient(part, processes):
        state, gradients = vivid_state(recipe), []
        state.part, state.processes = part, processes
        for p in state.model.parameters():
            p.register_hook(lambda gradient: gradients.append(gradient.flatten()) or None)
        loss = training_step(state, recipe, images[part], ALPHA_BAR, 0.0)
        return loss.item(), torch.cat(gradients)

    loss, gradient = loss_and_gradient(slice(None), 1)
    count = len(cuts) - 1
    parts = [loss_and_gradient(slice(a, b), count) for a, b in pairwise(cuts)]
    assert np.mean([loss for loss, _ in parts]) == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(torch.stack([g for _, g in parts]).mean(0), gradient, atol=1e-5, rtol=1e-3)


# An epoch


def test_an_epoch_is_a_step_for_each_batch_and_asks_for_the_progress_each_time(x_0):
    recipe, taken = replace(TINY, warmup=0, decay_from=0.0), []
    one, other = new_state(recipe, "cpu"), new_state(recipe, "cpu")
    batches = ((taken.append(k), x_0.roll(k, 0))[1] for k in range(3))
    progress = iter([0.25, 0.5, 0.75])
    losses = train_epoch(one, recipe, batches, ALPHA_BAR, lambda: next(progress))
    assert taken == [] and one.step == 0, "nothing is done before it is asked for"
    for k, loss in enumerate(losses):
        assert taken == list(range(k + 1))
        assert loss == training_step(other, recipe, x_0.roll(k, 0), ALPHA_BAR, [0.25, 0.5, 0.75][k])
    assert unmoved(one.model, weights(other.model)) and one.step == 3


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
def test_every_prediction_learns(x_0, prediction):
    recipe = replace(TINY, prediction=prediction, weighting="uniform", schedule="cosine", muon_lr=None)
    state, alpha_bar = new_state(recipe, "cpu"), recipe.make_schedule().alpha_bar.float()
    losses = list(train_epoch(state, recipe, [x_0] * 48, alpha_bar, lambda: 0.0))
    assert torch.stack(losses[-8:]).mean() < 0.8 * torch.stack(losses[:8]).mean()


@pytest.mark.parametrize("cuda, mps, device", [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_the_best_device_is_the_first_that_there_is(monkeypatch, cuda, mps, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert best_device() == device


# Recipes


@pytest.mark.parametrize(
    "warmup, decay_from, step, progress, expected",
    [
        (0, 1.0, 0, 0.0, 1.0),
        (0, 1.0, 999, 1.0, 1.0),
        (4, 1.0, 0, 0.0, 0.25),
        (4, 1.0, 3, 0.5, 1.0),
        (4, 1.0, 100, 0.5, 1.0),
        (0, 0.3, 0, 0.2, 1.0),
        (0, 0.3, 0, 0.3, 1.0),
        (0, 0.3, 0, 0.65, 0.5),
        (0, 0.3, 0, 1.0, 0.0),
        (0, 0.3, 0, 1.2, 0.0),
        (0, 0.0, 0, 0.25, 0.75),
        (4, 0.3, 1, 0.65, 0.25),
    ],
)
def test_the_learning_rate_rises_stays_and_falls(warmup, decay_from, step, progress, expected):
    recipe = Recipe(warmup=warmup, decay_from=decay_from)
    assert recipe.lr_factor(step, progress) == pytest.approx(expected)


def test_the_ema_decay_rises_to_that_of_the_recipe():
    assert [ORIGINAL.ema_decay(n) for n in (0, 1, 10, 90)] == pytest.approx([1 / 10, 2 / 11, 11 / 20, 91 / 100])
    assert ORIGINAL.ema_decay(8989) == pytest.approx(8990 / 8999) and ORIGINAL.ema_decay(8991) == 0.999
    assert ORIGINAL.ema_decay(10**6) == 0.999


# What the student's report says: base 64, T = 830, linear, ε, plain MSE, AdamW 2e-4, batch 512, 175 epochs, clip 1.
THE_ORIGINAL = {
    "name": "original",
    "model": {"base": 64, "multipliers": (1, 2), "blocks": 1, "middle_blocks": 1, "patch": 1, "channels": 3},
    "T": 830,
    "schedule": "linear",
    "prediction": "epsilon",
    "weighting": "uniform",
    "batch_size": 512,
    "epochs": 175,
    "minutes": None,
    "patience": None,
    "lr": 2e-4,
    "muon_lr": None,
    "beta2": 0.999,
    "warmup": 0,
    "decay_from": 1.0,
    "clip": 1.0,
    "ema": 0.999,
    "precision": "auto",
    "seed": 0,
}
THE_CPU = {
    **THE_ORIGINAL,
    "name": "cpu",
    "model": {"base": 32, "multipliers": (1, 2), "blocks": 2, "middle_blocks": 2, "patch": 2, "channels": 3},
    "prediction": "x0",
    "weighting": "min_snr",
    "batch_size": 64,
    "epochs": 1000,
    "minutes": 10,
    "lr": 1e-3,
    "muon_lr": 0.02,
    "beta2": 0.99,
    "warmup": 100,
    "decay_from": 0.3,
    "ema": 0.9999,
}
THE_LONG = {**THE_CPU, "name": "cpu-long", "model": {**THE_CPU["model"], "base": 64}, "minutes": 150}
THE_GPU = {**THE_LONG, "name": "gpu", "batch_size": 1024, "minutes": 15}
THE_SMOKE = {
    **THE_CPU,
    "name": "smoke",
    "model": {"base": 16, "multipliers": (1, 2), "blocks": 1, "middle_blocks": 1, "patch": 2, "channels": 3},
    "batch_size": 32,
    "epochs": 2,
    "minutes": None,
    "warmup": 10,
    "precision": "fp32",
}


@pytest.mark.parametrize(
    "expected",
    [
        THE_ORIGINAL,
        {**THE_ORIGINAL, "name": "original-t1000", "T": 1000},
        {**THE_ORIGINAL, "name": "original-cosine", "schedule": "cosine"},
        THE_CPU,
        THE_LONG,
        THE_GPU,
        THE_SMOKE,
    ],
    ids=lambda expected: expected["name"],
)
def test_a_recipe_is_what_its_results_were_made_with(expected):
    """Whoever changes a number here makes another recipe, under another name or with new weights and figures."""
    found = asdict(RECIPES[expected["name"]])
    assert found.pop("about") and found == expected


def test_the_recipes_are_known_by_their_names():
    assert list(RECIPES) == [recipe.name for recipe in RECIPES.values()]
    assert set(RECIPES) == {"original", "original-t1000", "original-cosine", "cpu", "cpu-long", "gpu", "smoke"}
    assert RECIPES["original"] == ORIGINAL == Recipe() and RECIPES["cpu"] == CPU and RECIPES["smoke"] == SMOKE
    assert RECIPES["cpu-long"] == LONG
    assert all(ORIGINAL.lr_factor(step, progress) == 1 for step, progress in [(0, 0), (10**4, 0.5), (2 * 10**4, 1)])


@pytest.mark.parametrize(
    "wrong, named",
    [
        ({"T": 0}, "T is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"epochs": -1}, "epochs is -1"),
        ({"minutes": 0}, "minutes is 0"),
        ({"patience": 0}, "patience is 0"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"muon_lr": -1.0}, "muon_lr is -1.0"),
        ({"clip": 0.0}, "clip is 0.0"),
        ({"decay_from": 1.5}, "decay_from"),
        ({"ema": 1.0}, "ema"),
        ({"warmup": -1}, "warmup"),
        ({"seed": -1}, "seed"),
    ],
    ids=str,
)
def test_an_impossible_recipe_is_refused(wrong, named):
    with pytest.raises(ValueError, match=named):
        Recipe(**wrong)


# Muon


@pytest.mark.parametrize("shape", [(8, 8), (4, 18), (18, 4)], ids=str)
def test_orthogonalizing_keeps_the_directions_and_levels_the_singular_values(shape):
    generator = torch.Generator().manual_seed(0)
    u, _, vh = torch.linalg.svd(torch.randn(3, *shape, generator=generator), full_matrices=False)
    rank = min(shape)
    matrices = u * torch.linspace(0.3, 1, rank) @ vh
    inner = u.mT @ orthogonalize(7.0 * matrices) @ vh.mT  # diagonal, if the singular vectors are kept
    diagonal = inner.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(inner, torch.diag_embed(diagonal), atol=1e-4, rtol=0)
    assert diagonal.min() > 0.6 and diagonal.max() < 1.25
    torch.testing.assert_close(orthogonalize(matrices[1:2])[0], orthogonalize(matrices)[1], atol=1e-5, rtol=0)


def test_muon_descends_as_jordan_writes_it():
    """https://kellerjordan.github.io/posts/muon in plain numpy, weight by weight, over three steps."""
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(8, 4, 3, 3, generator=generator), torch.randn(8, 4, 3, 3, generator=generator)]
    start += [torch.randn(16, 4, generator=generator)]
    params = [torch.nn.Parameter(w.clone()) for w in start]
    optimizer = Muon(params, lr=0.1, momentum=0.9, weight_decay=0.5)
    expected, averages = [w.double().numpy() for w in start], [0.0, 0.0, 0.0]
    for _ in range(3):
        gradients = [torch.randn(w.shape, generator=generator) for w in start]
        for p, g in zip(params, gradients, strict=True):
            p.grad = g.clone()
        optimizer.step()
        for i, g in enumerate(gradients):
            g = g.double().numpy()
            averages[i] = 0.9 * averages[i] + 0.1 * g
            x = (0.1 * g + 0.9 * averages[i]).reshape(len(g), -1)
            rows, columns = x.shape
            x = x.T if rows > columns else x
            x = x / np.linalg.norm(x)
            for _ in range(5):
                a = x @ x.T
                x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
            x = (x.T if rows > columns else x) * math.sqrt(max(1, rows / columns))
            expected[i] = expected[i] * (1 - 0.1 * 0.5) - 0.1 * x.reshape(g.shape)
    for p, e in zip(params, expected, strict=True):
        np.testing.assert_allclose(p.detach(), e, atol=1e-5)


def test_muon_takes_matrices_and_passes_over_what_has_no_gradient():
    with pytest.raises(ValueError, match="two or more dimensions"):
        Muon([torch.nn.Parameter(torch.zeros(3))])
    with_gradient, without = torch.nn.Parameter(torch.eye(3)), torch.nn.Parameter(torch.eye(3))
    with_gradient.grad = torch.ones(3, 3)
    Muon([with_gradient, without]).step()
    assert torch.equal(without, torch.eye(3)) and not torch.equal(with_gradient, torch.eye(3))


def test_the_draws_of_a_seed_are_what_they_always_were():
    """Two seeds share none, however many steps they take."""
    generator = torch.Generator().manual_seed(2 * 1_000_003 + 5)
    t = torch.randint(1, TINY.T + 1, (TINY.batch_size,), generator=generator)
    eps = torch.randn(TINY.batch_size, 3, 4, 4, generator=generator)
    drawn = draw(replace(TINY, seed=2), 5, torch.zeros(TINY.batch_size, 3, 4, 4))
    assert torch.equal(drawn[0], t) and torch.equal(drawn[1], eps)

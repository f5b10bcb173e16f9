"""The network: its shape, its start, and that time, skips and every weight matter."""

import pytest
import torch
from conftest import vivid_unet
from diffusers.models.embeddings import get_timestep_embedding

from hwkit.unet import GroupNorm, ResBlock, TimeEmbedding, UNet, UNetConfig, Upsample

SMALL = UNetConfig(base=16, multipliers=(1, 2, 3), blocks=2, middle_blocks=2)
SMALL_PATCHED = UNetConfig(base=16, blocks=1, patch=2)


def noisy(batch: int = 2, side: int = 28) -> torch.Tensor:
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(1))


def recorded(modules, call) -> list[tuple[torch.Tensor, ...]]:
    """What each of the modules got and gave, (inputs..., output), in the order of their calls."""
    seen = []
    hooks = [m.register_forward_hook(lambda _, inputs, output: seen.append((*inputs, output))) for m in modules]
    call()
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("config", [SMALL, SMALL_PATCHED, UNetConfig(base=16, multipliers=(2,), channels=1)], ids=str)
@pytest.mark.parametrize("side", [28, 32])
def test_the_output_has_the_shape_of_the_image(config, side):
    x = noisy(side=side)[:, : config.channels]
    assert UNet(config)(x, torch.tensor([1, 830])).shape == x.shape


def test_a_patch_of_2_works_on_14x14_inside():
    model = UNet(SMALL_PATCHED)
    [(folded, stem)] = recorded([model.stem], lambda: model(noisy(), torch.ones(2)))
    assert folded.shape == (2, 12, 14, 14) and stem.shape == (2, 16, 14, 14)


@pytest.mark.parametrize("config", [SMALL, SMALL_PATCHED], ids=["patch 1", "patch 2"])
def test_a_new_network_predicts_zero(config):
    assert torch.equal(UNet(config)(noisy(), torch.tensor([1, 830])), torch.zeros(2, 3, 28, 28))


def test_a_new_residual_block_is_the_identity():
    x, emb = noisy()[:, :1].expand(-1, 8, -1, -1), torch.randn(2, 32)
    assert torch.equal(ResBlock(8, 8, 32)(x, emb), x)


@pytest.mark.parametrize(
    "config, side, divisor",
    [(SMALL, 30, 4), (SMALL_PATCHED, 30, 4), (SMALL_PATCHED, 27, 4), (UNetConfig(base=16), 27, 2)],
)
def test_image_sides_that_do_not_halve_are_refused(config, side, divisor):
    with pytest.raises(ValueError, match=rf"image sides \({side}, 28\) must be multiples of {divisor}\."):
        UNet(config)(torch.zeros(1, 3, side, 28), torch.ones(1))


@pytest.mark.parametrize("config", [SMALL, SMALL_PATCHED], ids=["patch 1", "patch 2"])
def test_every_parameter_gets_a_gradient(config):
    model = vivid_unet(config)
    model(noisy(), torch.tensor([3, 700])).square().mean().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-7]
    assert without == []


@pytest.mark.parametrize("config", [SMALL, SMALL_PATCHED], ids=["patch 1", "patch 2"])
def test_time_matters_in_every_residual_block(config):
    blocks = [module for module in vivid_unet(config).modules() if isinstance(module, ResBlock)]
    assert len(blocks) == 2 * config.blocks * len(config.multipliers) + config.middle_blocks
    for alone in range(len(blocks)):  # only this one is told the time
        model = vivid_unet(config)
        deaf = [module for module in model.modules() if isinstance(module, ResBlock)]
        del deaf[alone]
        with torch.no_grad():
            for block in deaf:
                block.time.weight.zero_()
            early, late = model(noisy(), torch.tensor([5, 5])), model(noisy(), torch.tensor([500, 500]))
        assert (early - late).abs().max() > 1e-5, f"block {alone} does not hear the time"


def test_each_image_has_its_own_time():
    model = vivid_unet(SMALL)
    with torch.no_grad():
        together = model(noisy(), torch.tensor([5, 500]))
        apart = [model(noisy()[i : i + 1], torch.tensor([t])) for i, t in enumerate([5, 500])]
    torch.testing.assert_close(together, torch.cat(apart), atol=1e-5, rtol=0)


def test_every_skip_is_joined_at_its_own_level():
    model = vivid_unet(SMALL)
    seen = recorded([*model.down, *model.up], lambda: model(noisy(), torch.tensor([5, 500])))
    down, up = seen[: len(model.down)], seen[len(model.down) :]
    for (*_, given), (_, skip, _, _) in zip(reversed(down), up, strict=True):
        assert skip is given


@pytest.mark.parametrize("level", [0, 1, 2])
def test_every_skip_is_used(level):
    model = vivid_unet(SMALL)
    with torch.no_grad():
        whole = model(noisy(), torch.ones(2))
        model.up[level].register_forward_pre_hook(lambda _, inputs: (inputs[0], torch.zeros_like(inputs[1]), inputs[2]))
        assert (model(noisy(), torch.ones(2)) - whole).abs().max() > 1e-4


@pytest.mark.parametrize("config", [SMALL, SMALL_PATCHED], ids=["patch 1", "patch 2"])
def test_memory_stays_channels_last_from_stem_to_head(config):
    model = vivid_unet(config)
    kernels = [p for p in model.parameters() if p.ndim == 4 and p.shape[-1] > 1]
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)
    modules = [model.stem, *(m for m in model.modules() if isinstance(m, ResBlock)), *model.up, model.head]
    seen = recorded(modules, lambda: model(noisy(), torch.ones(2)))
    for *_, output in seen:
        assert output.is_contiguous(memory_format=torch.channels_last) and not output.is_contiguous()


def test_time_embedding_is_the_sines_and_cosines_of_diffusers():
    embedding = TimeEmbedding(64, 256)
    t = torch.tensor([0, 1, 17, 830])
    [(angles, _)] = recorded([embedding.mlp], lambda: embedding(t))
    expected = get_timestep_embedding(t, 64, flip_sin_to_cos=False, downscale_freq_shift=0)
    torch.testing.assert_close(angles, expected, atol=1e-4, rtol=0)  # float32 sines of numbers up to 830
    assert embedding(t).shape == (4, 256)


def test_upsampling_is_nearest_neighbour_doubling_and_a_3x3_convolution():
    torch.manual_seed(0)
    upsample, x = Upsample(16, 8), torch.randn(2, 16, 5, 7)
    doubled = upsample[0](x)
    torch.testing.assert_close(upsample(x), upsample[1](doubled), atol=1e-5, rtol=0)
    loss = torch.randn(2, 8, 10, 14)
    got = torch.autograd.grad(upsample(x), upsample[1].weight, loss)
    torch.testing.assert_close(
        got, torch.autograd.grad(upsample[1](doubled), upsample[1].weight, loss), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("channels, precision", [(64, torch.float32), (128, torch.bfloat16)])
def test_narrow_groups_are_normalised_in_float32(channels, precision):
    x = torch.randn(2, channels, 7, 7).bfloat16().contiguous(memory_format=torch.channels_last)
    normed = GroupNorm(8, channels)(x)
    assert normed.dtype == precision
    torch.testing.assert_close(normed.float(), torch.nn.GroupNorm(8, channels)(x.float()), atol=0.02, rtol=0.02)


def test_the_original_is_a_network_of_two_levels_of_64_and_128_channels():
    model = UNet()
    seen = recorded([*model.down, model.middle, *model.up], lambda: model(noisy(1), torch.ones(1)))
    assert [tuple(output.shape[1:]) for *_, output in seen] == [
        (64, 28, 28),
        (128, 14, 14),
        (128, 14, 14),
        (64, 28, 28),
        (64, 28, 28),
    ]


@pytest.mark.parametrize(
    "fields, sentence",
    [
        ({"base": 8}, "base is 8, but must be a multiple of 16"),  # groups of one channel would be deaf to the time
        ({"base": 20}, "base is 20, but must be a multiple of"),
        ({"base": 0}, "base is 0, but must be at least 1"),
        ({"blocks": 0}, "blocks is 0"),
        ({"middle_blocks": 0}, "middle_blocks is 0"),
        ({"patch": 0}, "patch is 0"),
        ({"channels": -1}, "channels is -1"),
        ({"multipliers": ()}, "needs a number ≥ 1 for each level"),
        ({"multipliers": (1, 0)}, "needs a number ≥ 1 for each level"),
    ],
)
def test_an_impossible_network_is_refused(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        UNetConfig(**fields)

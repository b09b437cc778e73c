"""The networks against the papers' facts: sizes, shapes, receptive fields, initialisation and the fusion equations."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from bmask.gan.blocks import InstanceNorm, PatchDiscriminator, ResidualBlock, initialise
from bmask.gan.lookup import build_generator, read_options
from bmask.gan.systems.attentiongan import AttentionGANOptions
from bmask.gan.systems.cyclegan import CycleGANOptions

pytestmark = pytest.mark.usefixtures("one_thread")

CYCLEGAN, SCHEME_1, SCHEME_2 = CycleGANOptions(), AttentionGANOptions(scheme=1, blocks=6), AttentionGANOptions(scheme=2)
TINY = {
    "cyclegan": CycleGANOptions(filters=2, blocks=1),
    "scheme1": AttentionGANOptions(scheme=1, filters=2, blocks=1),
    "scheme2": AttentionGANOptions(scheme=2, filters=2, blocks=1, masks=4),
}


def build_discriminator(options, channels: int = 3) -> PatchDiscriminator:
    return initialise(PatchDiscriminator(channels, options.discriminator_filters, options.discriminator_layers))


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def conv(kernel: int, channels_in: int, channels_out: int) -> int:
    return kernel * kernel * channels_in * channels_out + channels_out


def loud(options, seed: int = 0) -> nn.Module:
    """A generator with large weights, so that attention and contents vary from pixel to pixel."""
    torch.manual_seed(seed)
    generator = build_generator(options)
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.5 if parameter.ndim > 1 else 0.3))
    return generator.eval()


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


# Sizes.


@pytest.mark.parametrize(
    ("options", "millions"),
    [(CYCLEGAN, 11.38), (SCHEME_1, 7.93), (SCHEME_2, 11.82)],
    ids=["CycleGAN", "scheme 1", "scheme 2"],
)
def test_a_generator_has_as_many_parameters_as_published(options, millions):
    assert round(count(build_generator(options)) / 1e6, 2) == millions


def test_cyclegans_generator_has_the_parameters_of_its_published_layers():
    ends = conv(7, 3, 64) + conv(7, 64, 3)
    stages = conv(3, 64, 128) + conv(3, 128, 256) + conv(3, 256, 128) + conv(3, 128, 64)
    for blocks in (6, 9):
        generator = build_generator(CycleGANOptions(blocks=blocks))
        assert count(generator) == ends + stages + 2 * blocks * conv(3, 256, 256)


def test_scheme_2_has_a_shared_encoder_and_two_decoders_of_its_own():
    encoder = conv(7, 3, 64) + conv(3, 64, 128) + conv(3, 128, 256) + 18 * conv(3, 256, 256)
    up = conv(3, 256, 128) + conv(3, 128, 64)
    for masks in (2, 10):
        generator = build_generator(AttentionGANOptions(scheme=2, masks=masks))
        assert count(generator) == encoder + 2 * up + conv(7, 64, 3 * (masks - 1)) + conv(1, 64, masks)


@pytest.mark.parametrize("options", [CYCLEGAN, SCHEME_1, SCHEME_2], ids=["CycleGAN", "scheme 1", "scheme 2"])
def test_a_discriminator_has_as_many_parameters_as_published_and_a_guided_one_sees_one_channel_more(options):
    plain, guided = count(build_discriminator(options)), count(build_discriminator(options, channels=4))
    layers = [(3, 64), (64, 128), (128, 256), (256, 512), (512, 1)]
    assert plain == sum(conv(4, *pair) for pair in layers)
    assert int(plain / 1e4) / 100 == 2.76
    assert guided - plain == 4 * 4 * 64


@pytest.mark.parametrize("blocks", [6, 9])
@pytest.mark.parametrize("name", TINY)
def test_the_number_of_residual_blocks_is_an_option(name, blocks):
    options = read_options({**asdict(TINY[name]), "blocks": blocks})
    found = [module for module in build_generator(options).modules() if isinstance(module, ResidualBlock)]
    assert len(found) == blocks


def test_a_residual_block_whose_convolutions_are_zero_passes_its_input_on():
    block = ResidualBlock(4)
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    x = noise(2, 4, 6, 6)
    assert torch.equal(block(x), x)


def test_scheme_1_shuffles_pixels_up_and_the_others_transpose_convolutions():
    kinds = {name: {type(module) for module in build_generator(options).modules()} for name, options in TINY.items()}
    assert nn.PixelShuffle in kinds["scheme1"]
    assert nn.ConvTranspose2d not in kinds["scheme1"]
    for name in ("cyclegan", "scheme2"):
        assert nn.ConvTranspose2d in kinds[name]


@pytest.mark.parametrize("name", TINY)
def test_the_wide_convolutions_of_a_generator_are_reflect_padded(name):
    before = None
    for module in build_generator(TINY[name]).modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (7, 7):
            assert isinstance(before, nn.ReflectionPad2d)
            assert before.padding == (3, 3, 3, 3)
            assert module.padding == (0, 0)
        before = module


def test_a_discriminator_normalises_all_but_its_first_and_last_layer_and_leaks_a_fifth():
    kinds = [type(module) for module in build_discriminator(TINY["cyclegan"]).body]
    norm, leaky = InstanceNorm, nn.LeakyReLU
    assert kinds == [nn.Conv2d, leaky, *[nn.Conv2d, norm, leaky] * 3, nn.Conv2d]
    slopes = {m.negative_slope for m in build_discriminator(TINY["cyclegan"]).modules() if isinstance(m, leaky)}
    assert slopes == {0.2}


# Shapes and ranges.


@given(
    name=st.sampled_from(sorted(TINY)),
    batch=st.integers(1, 3),
    height=st.integers(2, 10).map(lambda n: 4 * n),
    width=st.integers(2, 10).map(lambda n: 4 * n),
    seed=st.integers(0, 5),
)
@settings(max_examples=40)
def test_any_picture_whose_sides_are_multiples_of_4_is_translated_within_range(name, batch, height, width, seed):
    x = noise(batch, 3, height, width, seed=seed)
    with torch.inference_mode():
        generator = loud(TINY[name], seed)
        out = generator(x)
    assert out.image.shape == x.shape
    assert out.image.dtype == torch.float32
    assert out.image.abs().max() <= 1 + 1e-6
    if name == "cyclegan":
        assert set(out[1:]) == {None}
        return
    with torch.inference_mode():
        contents, attentions = generator.masks_of(x)
    assert out.attention.shape == (batch, 1, height, width)
    assert 0 <= out.attention.min() <= out.attention.max() <= 1
    assert contents.abs().max() <= 1
    if name == "scheme1":
        assert contents.shape == (batch, 3, height, width)
        assert torch.equal(attentions, out.attention)
    else:
        assert contents.shape == (batch, 3, 3, height, width)
        assert attentions.shape == (batch, 4, 1, height, width)
        torch.testing.assert_close(attentions.sum(1), torch.ones(batch, 1, height, width))
        torch.testing.assert_close(out.attention, 1 - attentions[:, -1])


@given(
    layers=st.integers(1, 4),
    channels=st.sampled_from([3, 4]),
    sides=st.tuples(st.integers(48, 90), st.integers(48, 90)),
)
@settings(max_examples=25)
def test_a_discriminator_gives_one_score_a_patch(layers, channels, sides):
    options = CycleGANOptions(discriminator_filters=2, discriminator_layers=layers)

    def steps(side: int) -> int:
        for _ in range(layers):
            side = (side + 2 - 4) // 2 + 1
        return side - 2

    scores = build_discriminator(options, channels)(noise(2, channels, *sides))
    assert scores.shape == (2, 1, *map(steps, sides))
    assert scores.dtype == torch.float32


def test_the_published_discriminator_gives_30_by_30_scores_for_256_px():
    assert build_discriminator(CycleGANOptions(discriminator_filters=2))(noise(1, 3, 256, 256)).shape[2:] == (30, 30)


@pytest.mark.parametrize(("layers", "field"), [(1, 16), (2, 34), (3, 70), (4, 142)])
def test_one_score_sees_a_square_of_pixels_and_no_more(layers, field):
    torch.manual_seed(0)
    network = build_discriminator(CycleGANOptions(discriminator_filters=2, discriminator_layers=layers)).double()
    for index, module in enumerate(network.body):
        if isinstance(module, InstanceNorm):  # its statistics reach beyond the patch
            network.body[index] = nn.Identity()
    x = noise(1, 3, 256, 256).double().requires_grad_()
    scores = network(x)
    middle = scores.shape[-1] // 2
    scores[0, 0, middle, middle].backward()
    seen = (x.grad[0].abs().sum(0) > 0).numpy()
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    assert np.ptp(rows) + 1 == np.ptp(columns) + 1 == field
    assert seen.sum() == field * field


# Initialisation.


@pytest.mark.parametrize("build", [build_generator, build_discriminator], ids=["generator", "discriminator"])
@pytest.mark.parametrize("system", [CYCLEGAN, SCHEME_1, SCHEME_2], ids=["CycleGAN", "scheme 1", "scheme 2"])
def test_weights_start_from_a_normal_distribution_of_a_fiftieth_and_biases_from_0(build, system):
    torch.manual_seed(3)
    network = build(read_options({**asdict(system), "blocks": 1}))
    weights = torch.cat([p.detach().flatten() for n, p in network.named_parameters() if n.endswith("weight")]).numpy()
    assert weights.std() == pytest.approx(0.02, rel=0.005)
    assert stats.kstest(weights[:: len(weights) // 5000], stats.norm(0, 0.02).cdf).pvalue > 1e-3
    assert all((p == 0).all() for n, p in network.named_parameters() if n.endswith("bias"))


def test_every_layer_is_initialised_not_just_most():
    torch.manual_seed(0)
    network = build_generator(SCHEME_2)
    for name, parameter in network.named_parameters():
        if name.endswith("weight"):
            assert parameter.std().item() == pytest.approx(0.02, rel=0.15), name


def test_the_same_seed_builds_the_same_network():
    def weights() -> list[torch.Tensor]:
        torch.manual_seed(11)
        return list(build_generator(TINY["scheme2"]).parameters())

    assert all(torch.equal(one, two) for one, two in zip(weights(), weights(), strict=True))


@pytest.mark.parametrize("masks", [2, 10])
@pytest.mark.parametrize("bias", [0.0, 2.0, 5.0])
def test_scheme_2_starts_from_the_background_that_its_bias_asks_for(masks, bias):
    torch.manual_seed(0)
    options = AttentionGANOptions(scheme=2, blocks=1, masks=masks, background_bias=bias)
    x = noise(2, 3, 32, 32)
    with torch.inference_mode():
        generator = build_generator(options)
        out, (_, attentions) = generator(x), generator.masks_of(x)
    expected = np.exp(bias) / (np.exp(bias) + masks - 1)
    assert attentions[:, -1].mean().item() == pytest.approx(expected, abs=0.05)
    assert out.attention.mean().item() == pytest.approx(1 - expected, abs=0.05)
    if bias == 5 and masks == 2:
        assert (out.image - x).abs().mean() < 0.02  # it begins near the identity


def test_the_background_bias_moves_the_background_alone():
    torch.manual_seed(0)
    bias = (
        build_generator(AttentionGANOptions(scheme=2, filters=4, blocks=1, masks=5, background_bias=3.0))
        .attention[-1]
        .bias
    )
    assert bias.tolist() == [0, 0, 0, 0, 3]


# Instance norm.


def instance_norm(x: np.ndarray) -> np.ndarray:
    """By hand, in fp64, without affine parameters; eps as in the paper's code."""
    out = np.empty(x.shape)
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            plane = x[n, c]
            mean = plane.sum() / plane.size
            out[n, c] = (plane - mean) / np.sqrt(((plane - mean) ** 2).sum() / plane.size + 1e-5)
    return out


def test_instance_norm_takes_each_plane_of_each_sample_alone():
    x = noise(3, 4, 5, 7) * 3 + 1
    np.testing.assert_allclose(InstanceNorm()(x).numpy(), instance_norm(x.double().numpy()), atol=2e-6)
    assert not list(InstanceNorm().parameters())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("mean", "spread"), [(0.0, 1.0), (30.0, 1.0), (-200.0, 4.0)])
def test_instance_norm_keeps_exact_statistics_under_bf16(mean, spread, layout):
    x = (noise(2, 3, 64, 64) * spread + mean).bfloat16().contiguous(memory_format=layout)
    with torch.autocast("cpu", torch.bfloat16):
        out = InstanceNorm()(x)
    exact = instance_norm(x.double().numpy())
    error = np.abs(out.double().numpy() - exact)
    # bf16 has 8 bits, so rounding the result alone costs half of 2^-7; statistics in bf16 would cost whole units here.
    assert (error <= 2.0**-8 * np.abs(exact) + 1e-4).all()


def test_gradients_pass_instance_norm_as_finite_differences_say():
    x = noise(1, 2, 3, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(InstanceNorm(), (x,))


@pytest.mark.parametrize("name", TINY)
def test_a_generator_under_bf16_gives_fp32_images_near_its_fp32_ones(name):
    generator, x = loud(TINY[name]), noise(2, 3, 32, 32)
    with torch.inference_mode():
        exact = generator(x)
        with torch.autocast("cpu", torch.bfloat16):
            rough = generator(x)
    for one, other in zip(exact, rough, strict=True):
        if one is not None:
            assert other.dtype == torch.float32
            assert (one - other).abs().mean() < 0.05


# The fusion equations, by hand from the parts that the generator returns.


def test_scheme_1_lays_the_content_over_the_photo_by_its_attention():
    x = noise(2, 3, 8, 12)
    with torch.inference_mode():
        generator = loud(TINY["scheme1"])
        out, masks = generator(x), generator.masks_of(x)
    assert out.attention.std() > 0.1  # else the equation would be tested at one point
    image, content, attention = (part.double().numpy() for part in (out.image, *masks))
    for n, c, i, j in np.ndindex(image.shape):
        a = attention[n, 0, i, j]
        y = content[n, c, i, j] * a + float(x[n, c, i, j]) * (1 - a)
        assert abs(image[n, c, i, j] - y) < 1e-6


def test_scheme_2_sums_the_contents_by_their_attention_and_adds_the_photo_by_the_background():
    x = noise(2, 3, 8, 12)
    with torch.inference_mode():
        generator = loud(TINY["scheme2"])
        out, layers = generator(x), generator.masks_of(x)
    assert (layers[1].std(dim=(0, 2, 3, 4)) > 0.05).all()
    image, contents, attentions = (part.double().numpy() for part in (out.image, *layers))
    masks = attentions.shape[1]
    for n, c, i, j in np.ndindex(image.shape):
        y = float(x[n, c, i, j]) * attentions[n, masks - 1, 0, i, j]
        for mask in range(masks - 1):
            y += contents[n, mask, c, i, j] * attentions[n, mask, 0, i, j]
        assert abs(image[n, c, i, j] - y) < 1e-6


def test_scheme_2_gives_a_different_content_for_every_mask():
    with torch.inference_mode():
        contents = loud(TINY["scheme2"]).masks_of(noise(1, 3, 8, 8))[0][0]
    for i in range(len(contents)):
        for j in range(i):
            assert (contents[i] - contents[j]).abs().mean() > 0.05


# Options as plain values.


@given(
    filters=st.integers(1, 64).map(lambda n: 2 * n),
    blocks=st.integers(1, 12),
    scheme=st.sampled_from([1, 2]),
    weight=st.floats(0, 100),
    guided=st.booleans(),
)
def test_options_survive_a_trip_through_plain_values(filters, blocks, scheme, weight, guided):
    for options in (
        CycleGANOptions(filters=filters, blocks=blocks, w_cycle=weight),
        AttentionGANOptions(filters=filters, blocks=blocks, scheme=scheme, w_tv=weight, guided=guided),
    ):
        assert read_options(asdict(options)) == options


def test_options_with_an_unknown_key_or_system_are_refused():
    with pytest.raises(TypeError, match="colour"):
        read_options({"system": "cyclegan", "colour": 3})
    with pytest.raises(ValueError, match=r"dualgan.*attentiongan, cyclegan"):
        read_options({"system": "dualgan"})


def test_initialise_returns_the_network_that_it_was_given():
    network = nn.Conv2d(1, 1, 3)
    assert initialise(network) is network

"""Inpainting with attention: what its networks do, its losses, and what the loop makes of it, at 32 px."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import maximum_filter
from torch import Tensor

from bmask.data.split.dataset import to_tensor
from bmask.gan.draws import Draws
from bmask.gan.lookup import build_system
from bmask.gan.systems.inpainting import (
    Inpainting,
    InpaintingGenerator,
    InpaintingOptions,
    RegionDiscriminator,
    _overlap,
    stretched,
)
from bmask.training import checkpoint
from bmask.training.batches import Feed
from bmask.training.distributed import World
from bmask.training.engine import Engine
from bmask.training.loop import Trained, train
from pasted import LOAD, OPTIONS, SIZE, TRAINING, frozen_weights, given
from tiny import pictures

pytestmark = pytest.mark.usefixtures("one_thread")

GAME = {"gan", "features"}


def built(**changes) -> Inpainting:
    torch.manual_seed(1)
    return build_system(dataclasses.replace(OPTIONS, **changes), frozen_weights())


def batch(step: int = 0, needs: dict[str, float] | None = None) -> dict[str, Tensor]:
    tensors = {name: torch.from_numpy(array) for name, array in given().items()}
    return Feed(needs or OPTIONS.needs, tensors, SIZE, 4, 1).at(step)


def engine(game: bool = True, **changes) -> Engine:
    system = built()
    system.start_epoch(OPTIONS.game_epoch if game else 0)
    return Engine(system, dataclasses.replace(TRAINING, **changes), torch.device("cpu"), "fp32", World())


# The generator.


@pytest.mark.parametrize(("bias", "expected"), [(-9.0, 0.0), (9.0, 1.0)])
def test_its_attention_reaches_its_ends_and_the_composite_is_the_photo_or_the_content_to_the_bit(bias, expected):
    torch.manual_seed(2)
    generator = InpaintingGenerator(8, 1)
    with torch.no_grad():
        generator.attention[0].weight.mul_(0.01)
        generator.attention[0].bias.fill_(bias)
    painted = []
    generator.content.register_forward_hook(lambda _module, _inputs, out: painted.append(torch.tanh(out.float())))
    x = torch.rand(2, 3, SIZE, SIZE) * 2 - 1
    made = generator(x)
    assert (made.attention == expected).all()
    assert torch.equal(made.image, painted[0] if expected else x)


def test_the_stretched_sigmoid_is_one_half_at_zero_and_ends_where_a_sigmoid_says_a_twelfth():
    at = torch.tensor([0.0, np.log(1 / 11) - 1e-3, np.log(1 / 11) + 1e-2, np.log(11) - 1e-2, np.log(11) + 1e-3])
    value = stretched(at)
    assert value[0] == pytest.approx(0.5)
    assert value[1] == 0 < value[2] < 0.01
    assert value[4] == 1 > value[3] > 0.99


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96)])
def test_pictures_of_any_multiple_of_32_px_go_through(height, width):
    made = InpaintingGenerator(8, 0)(torch.rand(1, 3, height, width))
    assert made.image.shape == (1, 3, height, width)
    assert made.attention.shape == made.logits.shape == (1, 1, height, width)


def test_its_size_is_as_documented():
    assert sum(p.numel() for p in InpaintingGenerator(96, 4).parameters()) == pytest.approx(10.8e6, rel=0.01)


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="filters 12 is not a multiple of 8"):
        InpaintingOptions(filters=12)
    with pytest.raises(ValueError, match=r"cutouts 1\.5 is a share"):
        InpaintingOptions(cutouts=1.5)
    with pytest.raises(ValueError, match=r"train\.image_size 48 is not a multiple of 32"):
        OPTIONS.check_size(48)


def test_parts_that_are_switched_off_ask_for_nothing():
    bare = InpaintingOptions(filters=8, blocks=0, cutouts=0, w_gan=0, w_perceptual=0)
    assert bare.needs == {"pasted": 1.0}
    assert bare.frozen == {}
    system = build_system(bare)
    assert not len(system.discriminators)
    system.start_epoch(0)
    made = system.generator_losses(batch(needs=bare.needs), Draws(1, "test", 0))
    assert set(made.losses) == {"reconstruction_l1", "reconstruction_gradient", "region_pasted"}
    assert made.fakes == {}
    assert set(made.statistics) == {"attention_pasted", "overlap_pasted"}


def test_the_frozen_features_that_are_missing_are_named():
    with pytest.raises(ValueError, match="needs the frozen network 'features'"):
        build_system(OPTIONS)


# The losses.


def plain(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def widened(region: np.ndarray, pixels: int) -> np.ndarray:
    """The largest value within `pixels`, by scipy."""
    return maximum_filter(region, (1, 1, 2 * pixels + 1, 2 * pixels + 1), mode="constant")


@pytest.mark.parametrize(("rim", "unsure"), [(0, 0), (2, 0), (1, 3)])
def test_the_losses_are_those_of_the_docstring_written_again(rim, unsure):
    system, given_batch = built(rim=rim, unsure=unsure), batch()
    system.start_epoch(0)
    made = system.generator_losses(given_batch, Draws(1, "test", 0))
    both = system.translate(torch.cat([given_batch["pasted"], given_batch["masked"]]))
    image, photo, region = plain(both.image[:4]), plain(given_batch["photo"]), plain(given_batch["region"])
    expected = np.mean(np.abs(image - photo) * (1 + 5 * widened(region, 2)))
    assert made.losses["reconstruction_l1"].item() == pytest.approx(expected, rel=1e-5)
    apart = image - photo
    gradients = np.mean(np.abs(np.diff(apart, axis=-1))) + np.mean(np.abs(np.diff(apart, axis=-2)))
    assert made.losses["reconstruction_gradient"].item() == pytest.approx(gradients, rel=1e-5)
    chance = 1 / (1 + np.exp(-plain(both.logits)))
    for name, found, true in (
        ("region_pasted", chance[:4], region > 0.05),
        ("region_cutout", chance[4:], plain(given_batch["cutout"]) > 0.3),
    ):
        true = widened(true.astype(float), rim) > 0
        near = (widened(true.astype(float), unsure) > 0) & ~true if name == "region_cutout" else np.zeros_like(true)
        entropy = -np.mean(np.where(near, 0, np.where(true, np.log(found), np.log(1 - found))))
        assert made.losses[name].item() == pytest.approx(entropy, rel=1e-5), name


def test_the_game_begins_in_its_epoch_with_losses_and_weights_of_its_own():
    system, given_batch, names = built(), batch(), []
    for epoch in range(4):
        system.start_epoch(epoch)
        made = system.generator_losses(given_batch, Draws(1, "test", epoch))
        names.append(set(made.losses))
        assert bool(made.fakes) == (epoch >= 2)
        assert bool(system.discriminator_losses(given_batch, made.fakes, Draws(1, "test", epoch))) == (epoch >= 2)
        total = sum(system.weights(epoch)[name.partition("_")[0]] * value for name, value in made.losses.items())
        assert system.total(made.losses, epoch).item() == pytest.approx(total.item())
    assert names[0] == names[1] == names[2] - GAME == names[3] - GAME
    assert names[2] >= GAME
    reconstruction = [system.weights(epoch)["reconstruction"] for epoch in range(4)]
    assert reconstruction == [OPTIONS.w_reconstruction] * 2 + [OPTIONS.w_reconstruction_game] * 2


def test_overlap_is_that_of_each_photo_and_whole_where_there_is_nothing_to_find():
    found, region = torch.zeros(3, 1, 4, 4), torch.zeros(3, 1, 4, 4)
    found[1, 0, :2], region[1, 0, 1:3] = 1, 1  # overlap 1/3
    region[2] = 1  # none of it found
    assert float(_overlap(found, region)) == pytest.approx((1 + 1 / 3 + 0) / 3)


def gradients(system: Inpainting, given_batch: dict[str, Tensor], epoch: int) -> dict[str, Tensor]:
    system.zero_grad(set_to_none=True)
    system.start_epoch(epoch)
    system.discriminators.requires_grad_(False)
    system.total(system.generator_losses(given_batch, Draws(1, "test", 0)).losses, epoch).backward()
    return {name: p.grad.clone() for name, p in system.generators["ab"].named_parameters()}


@pytest.mark.parametrize("epoch", [0, 2], ids=["before the game", "in the game"])
def test_masked_photos_teach_the_attention_alone(epoch):
    """Other masked photos change no gradient of the content's head; without their loss they change none at all."""
    system, first = built(), batch()
    other = first | {"masked": first["masked"].flip(1), "cutout": 1 - first["cutout"]}
    one, two = gradients(system, first, epoch), gradients(system, other, epoch)
    content = {name for name in one if name.startswith("content.")}
    assert content
    assert all(torch.allclose(one[name], two[name], rtol=1e-4, atol=1e-7) for name in content)
    assert not torch.allclose(one["attention.0.weight"], two["attention.0.weight"], rtol=1e-2)
    assert not torch.allclose(one["stem.1.weight"], two["stem.1.weight"], rtol=1e-2)  # both share the stem

    deaf = built(w_region=0.0)
    one, two = gradients(deaf, first, epoch), gradients(deaf, other, epoch)
    assert all(torch.allclose(one[name], two[name], rtol=1e-4, atol=1e-7) for name in one)


def test_a_critics_scores_and_features_come_at_two_scales():
    scores, features = RegionDiscriminator(4)(torch.rand(2, 4, 64, 64))
    assert [tuple(s.shape) for s in scores] == [(2, 1, 8, 8), (2, 1, 4, 4)]
    assert len(features) == 5


# In the loop.


def iterates(discriminator: RegionDiscriminator) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in discriminator.state_dict().items() if k.endswith(("_u", "_v"))}


@pytest.mark.parametrize("parts", [1, 2])
def test_the_power_iteration_advances_once_a_step_however_many_passes_there_are(parts):
    made = engine(accumulate_steps=parts)
    discriminator = made.system.discriminators["region"]
    before = iterates(discriminator)
    made.step(batch(), OPTIONS.game_epoch, 0)
    after, state = iterates(discriminator), discriminator.state_dict()
    for name in [name for name in before if name.endswith("_u")]:
        weight = state[name.replace("0._u", "original")].flatten(1)
        u, v = (before[name], before[name[:-1] + "v"])
        expected = torch.nn.functional.normalize(weight @ v, dim=0)
        assert torch.allclose(after[name], expected, atol=1e-5), name
        assert len(u) == 1 or not torch.allclose(after[name], u, atol=1e-5), name  # a head has one channel
        assert torch.allclose(
            after[name[:-1] + "v"], torch.nn.functional.normalize(weight.T @ expected, dim=0), atol=1e-5
        )


def test_before_the_game_nothing_of_the_discriminator_moves():
    made = engine(game=False)
    before = {name: value.clone() for name, value in made.system.discriminators.state_dict().items()}
    assert not GAME & set(made.step(batch(), 0, 0))
    assert all(value.equal(before[name]) for name, value in made.system.discriminators.state_dict().items())


@pytest.mark.parametrize("game", [False, True], ids=["before the game", "in the game"])
def test_a_batch_in_parts_computes_what_the_whole_does(game):
    whole, apart = engine(game), engine(game, accumulate_steps=2)
    epoch = OPTIONS.game_epoch if game else 0
    losses, same = whole.step(batch(), epoch, 0), apart.step(batch(), epoch, 0)
    assert set(losses) == set(same)
    for name, value in losses.items():
        torch.testing.assert_close(same[name], value, rtol=1e-3, atol=1e-5, msg=name)
    # Not the biases: their fake and true gradients cancel, and Adam makes full steps of the rounding that is left.
    networks = [each.system.discriminators.state_dict() for each in (whole, apart)]
    for name in [name for name in networks[0] if not name.endswith("bias")]:
        torch.testing.assert_close(networks[1][name], networks[0][name], rtol=1e-3, atol=1e-4, msg=name)


class Stop(Exception):
    pass


class StopAt:
    """An observer that ends the training at a step."""

    def __init__(self, step: int):
        self.step = step

    def started(self, *_) -> None: ...

    def losses(self, row: dict) -> None:
        if row["step"] == self.step:
            raise Stop

    def samples(self, *_) -> None: ...

    def saved(self) -> None: ...


def run(folder: Path, observers=(), options: InpaintingOptions = OPTIONS, warm=None, **changes) -> Trained:
    chosen = dataclasses.replace(TRAINING, **changes)
    shown = to_tensor(pictures(2, SIZE, masked=True, seed=5))
    return train(options, given(), shown, chosen, folder, {}, observers, warm or {}, frozen=frozen_weights())


def test_it_is_stopped_before_at_and_in_the_game_and_resumes_to_the_same_bits(tmp_path):
    """Epochs of 3 steps; the game begins with the seventh step."""
    whole = run(tmp_path / "whole")
    for step in (4, 6, 7, 10):
        with pytest.raises(Stop):
            run(tmp_path / "stopped", [StopAt(step)])
    stopped = run(tmp_path / "stopped")
    assert stopped.history == whole.history
    assert [bool(GAME & set(row)) for row in whole.history] == [False] * 6 + [True] * 6
    for of in ("generators", "discriminators"):
        for name, weight in getattr(whole, of).state_dict().items():
            assert torch.equal(weight, getattr(stopped, of).state_dict()[name]), name
    names = set(checkpoint.read(tmp_path / "whole" / checkpoint.LATEST)["system"])
    assert any(name.startswith("discriminators.region.") for name in names)
    assert not any("frozen" in name or "features" in name for name in names)


def test_a_warm_start_takes_generator_and_discriminators_along(tmp_path):
    first = run(tmp_path / "first")
    warm = {"ab": first.generators["ab"].state_dict()}
    warm["discriminators"] = {name: value.half() for name, value in first.discriminators.state_dict().items()}
    second = run(tmp_path / "second", warm=warm, lr=1e-12, ema=0.0, epochs=1, constant_epochs=1, epoch_photos=4)
    for name, value in first.generators["ab"].state_dict().items():
        torch.testing.assert_close(second.generators["ab"].state_dict()[name], value, rtol=0, atol=1e-6)
    for name, value in first.discriminators.state_dict().items():
        assert second.discriminators.state_dict()[name].dtype == torch.float32
        torch.testing.assert_close(second.discriminators.state_dict()[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_it_learns_where_masks_are_and_what_is_below(tmp_path):
    history = run(tmp_path, epochs=30, constant_epochs=20, sample_every=99, checkpoint_every=99, lr=4e-3).history
    first, last = history[:6], history[-6:]
    for loss in ("reconstruction_l1", "region_pasted", "region_cutout"):
        assert sum(row[loss] for row in last) < 0.7 * sum(row[loss] for row in first), loss
    assert np.mean([row["overlap_masked"] for row in last]) > 0.5


def test_photos_of_another_size_than_the_masks_are_refused_with_both(tmp_path):
    there = given() | {"cutouts": given()["cutouts"][:, :, : LOAD - 8, : LOAD - 8]}
    with pytest.raises(ValueError, match=r"wearing has 12 photos of 28 px; crops are 32 px"):
        train(OPTIONS, there, torch.zeros(1, 3, SIZE, SIZE), TRAINING, tmp_path, {}, frozen=frozen_weights())

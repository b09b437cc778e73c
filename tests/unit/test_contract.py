"""A system that uses the whole contract: what the loop does for it, at 16 px."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from bmask.gan import lookup, systems
from bmask.gan.options import SystemOptions
from bmask.gan.system import System
from bmask.params import parse_params
from bmask.recipe import given_digests
from bmask.training import checkpoint
from bmask.training.batches import Feed
from bmask.training.distributed import World
from bmask.training.engine import Engine
from bmask.training.loop import Trained, train
from newcomer import FOLDER, arrays, frozen_weights, write_inputs
from tiny import LOOP, SIZE

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIONS = dataclasses.replace(LOOP, epochs=3, sample_every=9)


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    """The folder of the new file counts as part of gan/systems/."""
    monkeypatch.setattr(systems, "__path__", [*systems.__path__, str(FOLDER)])


def options() -> SystemOptions:
    return lookup.read_options({"system": "novel"})


def run(folder: Path, observers=(), **changes) -> Trained:
    chosen = dataclasses.replace(OPTIONS, **changes)
    shown = torch.zeros(1, 3, SIZE, SIZE)
    return train(options(), arrays(), shown, chosen, folder, {}, observers, frozen=frozen_weights())


def engine(world: World = World(), **changes) -> Engine:
    torch.manual_seed(3)
    system = lookup.build_system(options(), frozen_weights())
    return Engine(system, dataclasses.replace(OPTIONS, **changes), torch.device("cpu"), "fp32", world)


def batches(step: int = 0) -> list[dict[str, torch.Tensor]]:
    tensors = {name: torch.from_numpy(array) for name, array in arrays().items()}
    return [Feed(options().needs, tensors, SIZE, 4, 1, turn=turn).at(step) for turn in range(3)]


def test_it_is_found_by_its_file_alone():
    assert lookup.names() == ["attentiongan", "cyclegan", "inpainting", "novel"]
    assert issubclass(lookup.system_class("novel"), System)


def test_its_batch_carries_what_it_needs_with_its_share_of_photos_and_pairs_share_their_crop():
    batch = batches()[0]
    shapes = {name: tuple(tensor.shape) for name, tensor in batch.items()}
    assert shapes == {
        **{name: (4, 3, SIZE, SIZE) for name in ("a", "b", "pasted", "photo")},
        **{"region": (4, 1, SIZE, SIZE), "masked": (2, 3, SIZE, SIZE), "cutout": (2, 1, SIZE, SIZE)},
    }
    outside, inside = batch["region"] == 0, batch["region"] == 1
    assert torch.equal(batch["pasted"] * outside, batch["photo"] * outside)
    assert ((batch["pasted"] - batch["photo"]).abs() * inside).max() > 0.1
    blue_over_red = (batch["masked"][:, 2:] > batch["masked"][:, :1]).float()  # how `tiny.pictures` draws masks
    assert (blue_over_red * batch["cutout"]).sum() == batch["cutout"].sum()
    assert not any(torch.equal(photo, other) for photo in batch["photo"] for other in batch["b"])


def test_each_discriminator_step_has_photos_and_fakes_of_its_own():
    one, two, three = batches()
    assert not torch.equal(one["photo"], two["photo"])
    assert not torch.equal(two["photo"], three["photo"])
    seen: list[torch.Tensor] = []
    made = engine()
    critic = made.system.discriminators["critic"]
    critic.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    made.step(one, 0, 0, two, three)
    fakes = [given for given in seen if given.shape[1] == 4]
    assert len(fakes) == 1 + 2 + 2 * (1 + 2)  # the generator's turn; fake and real; two more turns with new fakes
    bounds = [parameter.abs().max().item() for parameter in critic.parameters()]
    assert max(bounds) == pytest.approx(0.05)  # clipped


def test_what_is_trained_averaged_kept_and_left_alone():
    made = engine()
    frozen = made.system.frozen["features"]
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    projector = made.system.helpers["projector"].weight.detach().clone()
    made.step(batches()[0], 0, 0, *batches()[1:])
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())
    assert not torch.equal(made.system.helpers["projector"].weight, projector)
    assert set(made.average.network) == {"ab"}
    kept = set(made.state()["system"])
    assert any(name.startswith("helpers.projector") for name in kept)
    assert not any("frozen" in name or "features" in name for name in kept)
    assert made.pools == {}
    made.set_rate(0.5)
    rates = [optimizer.param_groups[0]["lr"] for optimizer in made.optimizers.values()]
    assert rates == [pytest.approx(1e-3), pytest.approx(5e-4)]
    assert all(isinstance(optimizer, torch.optim.RMSprop) for optimizer in made.optimizers.values())


def test_a_batch_in_parts_draws_and_computes_what_the_whole_does():
    """All draws, dropout and the system's own noise too, are made for the whole batch and then cut."""
    whole, apart = engine(), engine(accumulate_steps=2)
    batch, *others = batches()
    losses, same = whole.step(batch, 0, 0, *others), apart.step(batch, 0, 0, *others)
    assert set(losses) == set(same)
    for name, value in losses.items():
        torch.testing.assert_close(same[name], value, rtol=1e-4, atol=1e-6, msg=name)
    for (name, one), two in zip(whole.system.state_dict().items(), apart.system.state_dict().values(), strict=True):
        torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-4, msg=name)


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


def test_it_resumes_to_the_same_bits(tmp_path):
    whole = run(tmp_path / "whole")
    for step in (4, 8):
        with pytest.raises(Stop):
            run(tmp_path / "stopped", [StopAt(step)])
    stopped = run(tmp_path / "stopped")
    assert stopped.history == whole.history
    assert list(whole.generators) == ["ab"]
    for name, weight in whole.generators.state_dict().items():
        assert torch.equal(weight, stopped.generators.state_dict()[name]), name
    other = run(tmp_path / "other", seed=2)
    assert other.history != whole.history


def test_it_learns(tmp_path):
    history = run(tmp_path, epochs=30, constant_epochs=30, checkpoint_every=99).history
    first, last = history[:6], history[-6:]
    for loss in ("photo", "found_cutout"):
        assert sum(row[loss] for row in last) < 0.8 * sum(row[loss] for row in first)


@pytest.mark.parametrize("missing", ["masks", "cutouts"])
def test_an_array_that_is_missing_is_named(missing, tmp_path):
    there = {name: array for name, array in arrays().items() if name != missing}
    with pytest.raises(ValueError, match=f"needs '(pasted|cutouts)' batches, for which {missing}_train.npy is missing"):
        train(options(), there, torch.zeros(1, 3, SIZE, SIZE), OPTIONS, tmp_path, {}, frozen=frozen_weights())


def test_frozen_weights_that_are_missing_or_of_another_network_are_named():
    with pytest.raises(ValueError, match="needs the frozen network 'features'"):
        lookup.build_system(options(), {})
    with pytest.raises(ValueError, match=r"frozen network 'features': .*weight"):
        lookup.build_system(options(), {"features": {"weight": torch.zeros(1), "bias": torch.zeros(5)}})


def test_a_share_of_a_batch_that_is_no_whole_number_of_photos_is_refused():
    with pytest.raises(ValueError, match=r"batch_size 3 gives 1\.5 photos of 'cutouts'"):
        engine(batch_size=3)


@pytest.mark.parametrize(("processes", "accumulate"), [(2, 1), (1, 2)])
def test_a_system_whose_loss_looks_across_a_batch_is_not_cut_up(processes, accumulate, monkeypatch):
    monkeypatch.setattr(lookup.system_class("novel"), "couples_samples", True)
    with pytest.raises(ValueError, match=r"compares photos of a batch.*train\.processes.*schedule\.accumulate_steps"):
        engine(World(0, processes), accumulate_steps=accumulate)
    assert engine().parts == 1


def test_the_checkpoint_holds_the_helper_and_not_the_frozen_network(tmp_path):
    run(tmp_path)
    names = set(checkpoint.read(tmp_path / checkpoint.LATEST)["system"])
    assert {"helpers.projector.weight", "discriminators.critic.weight"} <= names
    assert not any("features" in name for name in names)


def test_what_is_handed_to_the_system_counts_in_its_fingerprint(tmp_path):
    """Other masks or another frozen network make another training; arrays that it does not ask for do not."""
    recipe = parse_params({"models": {"m": {"network": {"system": "novel"}}}}).models["m"]
    write_inputs(tmp_path)
    frozen, given = {"features": tmp_path / "features.safetensors"}, arrays()
    before = given_digests(recipe, given, frozen)
    assert set(before) == {"array.masks", "array.cutouts", "frozen.features"}
    assert given_digests(recipe, given | {"targets": given["b"]}, frozen) == before
    for name in ("masks", "cutouts"):
        assert given_digests(recipe, given | {name: 255 - given[name]}, frozen) != before
    frozen["features"].write_bytes(b"other")
    assert given_digests(recipe, given, frozen) != before

"""The training loop at 16 px: what a step does, the same bits twice, stops, longer trainings, and when it gives up."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bmask.data.split.dataset import to_tensor
from bmask.gan.draws import Draws
from bmask.gan.lookup import build_system
from bmask.gan.translation import Translation
from bmask.training import checkpoint
from bmask.training.batches import Feed
from bmask.training.checkpoint import LATEST, PREVIOUS
from bmask.training.health import Diverged
from bmask.training.loop import Trained, train
from bmask.training.pool import ImagePool
from bmask.training.stopping import Stopped
from tiny import LOOP, SIZE, SYSTEMS, TRAIN, pictures

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIONS = LOOP
STEPS = TRAIN // 4  # in an epoch
FINGERPRINT = {"data": "tiny"}


def photos() -> dict[str, np.ndarray]:
    """Two copies of photos of 18 px, for crops of 16 px."""
    return {d: np.stack([pictures(TRAIN, 18, d == "a", seed) for seed in (0, 9)]) for d in "ab"}


def shown() -> Tensor:
    return to_tensor(pictures(2, SIZE, masked=True, seed=5))


class Watch:
    """An observer that records what it gets, and can stop the training at a step."""

    def __init__(self, stop_at: int | None = None):
        self.stop_at, self.epochs, self.rows, self.shown, self.saves = stop_at, [], [], [], []

    def started(self, epoch: int, steps_per_epoch: int, history: list[dict]) -> None:
        self.epochs.append(epoch)
        self.steps_per_epoch, self.resumed_with = steps_per_epoch, list(history)

    def losses(self, row: dict) -> None:
        self.rows.append(row)
        if row["step"] == self.stop_at:
            raise KeyboardInterrupt

    def samples(self, epoch: int, step: int, inputs: Tensor, translated: Translation) -> None:
        self.shown.append((epoch, step, inputs.clone(), translated))

    def saved(self) -> None:
        self.saves.append(len(self.rows))


def run(
    folder: Path, system: str = "scheme2", watch: Watch | None = None, warm=None, network=None, **changes
) -> Trained:
    options = dataclasses.replace(OPTIONS, **changes)
    recipe = dataclasses.replace(SYSTEMS[system], **(network or {}))
    return train(recipe, photos(), shown(), options, folder, FINGERPRINT, [watch] if watch else [], warm or {})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Trainings that nothing disturbed, each made once: whole(system, epochs, constant_epochs)."""

    @functools.cache
    def trained(system: str = "scheme2", epochs: int = 4, constant_epochs: int = 2) -> Trained:
        return run(tmp_path_factory.mktemp("whole"), system, epochs=epochs, constant_epochs=constant_epochs)

    return trained


def assert_same(one: Trained, other: Trained) -> None:
    """Asserts the same history and generators, bit for bit."""
    assert one.history == other.history
    assert one.steps == other.steps
    weights, others = one.generators.state_dict(), other.generators.state_dict()
    assert list(weights) == list(others)
    for name, weight in weights.items():
        assert torch.equal(weight, others[name]), name


# What a step does.


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_loop_trains_as_a_plain_reading_of_the_papers_does(system, tmp_path):
    """Repeats the training without the loop: generators, then discriminators on pooled fakes, Adam for each."""
    trained = run(tmp_path, system, epochs=3, constant_epochs=1, sample_every=99, checkpoint_every=99)
    torch.manual_seed(OPTIONS.seed)
    plain = build_system(SYSTEMS[system])
    adam = {"betas": (0.5, 0.999), "fused": True}
    generators = torch.optim.Adam(plain.generators.parameters(), lr=1.0, **adam)
    discriminators = torch.optim.Adam(plain.discriminators.parameters(), lr=1.0, **adam)
    feed = Feed({"unpaired": 1}, {d: torch.from_numpy(p) for d, p in photos().items()}, SIZE, 4, OPTIONS.seed)
    pools = {domain: ImagePool(4, OPTIONS.seed, domain) for domain in "ab"}
    average = {name: value.clone() for name, value in plain.generators.state_dict().items()}
    for step in range(3 * STEPS):
        epoch = step // STEPS
        for optimizer in (generators, discriminators):
            optimizer.param_groups[0]["lr"] = 2e-3 * [1, 1, 0.5][epoch]
        batch = feed.at(step)
        made = plain.generator_losses(batch, Draws(OPTIONS.seed, "plain", step))
        weights = plain.weights(epoch)
        total = sum(weights[name.split("_")[0]] * loss for name, loss in made.losses.items())
        gradients = torch.autograd.grad(total, list(plain.generators.parameters()))
        for parameter, gradient in zip(plain.generators.parameters(), gradients, strict=True):
            parameter.grad = gradient
        generators.step()
        fakes = {domain: pools[domain].swap(fake.detach(), step) for domain, fake in made.fakes.items()}
        judged = plain.discriminator_losses(batch, fakes, Draws(OPTIONS.seed, "plain", step))
        gradients = torch.autograd.grad(sum(judged.values()), list(plain.discriminators.parameters()))
        for parameter, gradient in zip(plain.discriminators.parameters(), gradients, strict=True):
            parameter.grad = gradient
        discriminators.step()
        decay = min(OPTIONS.ema, (1 + step) / (10 + step))
        for name, value in plain.generators.state_dict().items():
            average[name] = decay * average[name] + (1 - decay) * value
        row = trained.history[step]
        for name, loss in {"total": total, **made.losses, **judged}.items():
            assert row[name] == pytest.approx(loss.item(), rel=1e-5), (name, step)
    for name, value in trained.generators.state_dict().items():
        torch.testing.assert_close(value, average[name], rtol=1e-5, atol=1e-6)


def test_every_row_says_where_it_is_and_at_what_rate(tmp_path):
    watch = Watch()
    trained = run(tmp_path, watch=watch, epochs=4, constant_epochs=2)
    assert watch.epochs == [0]
    assert watch.steps_per_epoch == STEPS
    assert watch.rows == trained.history
    assert trained.steps == 4 * STEPS
    assert [row["step"] for row in trained.history] == list(range(1, 4 * STEPS + 1))
    assert [row["epoch"] for row in trained.history] == [epoch for epoch in range(4) for _ in range(STEPS)]
    rates = {row["epoch"]: row["lr"] for row in trained.history}
    assert rates == pytest.approx({0: 2e-3, 1: 2e-3, 2: 2e-3, 3: 1e-3})
    assert all(math.isfinite(value) for row in trained.history for value in row.values())


def test_a_row_is_the_mean_over_its_steps_and_no_row_crosses_an_epoch(tmp_path):
    every = run(tmp_path / "1", epochs=2, batch_size=3).history
    some = run(tmp_path / "3", epochs=2, batch_size=3, log_every=3).history
    assert [row["step"] for row in some] == [3, 4, 7, 8]
    before = 0
    for row in some:
        covered = every[before : row["step"]]
        for name in row:
            if name not in ("step", "epoch", "lr"):
                assert row[name] == pytest.approx(np.mean([one[name] for one in covered]), rel=1e-9), name
        before = row["step"]


def test_an_epoch_is_one_pass_over_the_photos_whatever_the_copies(tmp_path):
    for batch, steps in [(1, TRAIN), (5, TRAIN // 5), (100, 1)]:
        watch = Watch(stop_at=1)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / str(batch), watch=watch, batch_size=batch)
        assert watch.steps_per_epoch == steps
    watch = Watch(stop_at=1)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "said", watch=watch, epoch_photos=9)
    assert watch.steps_per_epoch == 2


def test_the_same_photos_are_shown_through_time_as_the_average_sees_them(tmp_path):
    watch = Watch()
    trained = run(tmp_path, watch=watch, epochs=3, sample_every=2)
    assert [(epoch, step) for epoch, step, *_ in watch.shown] == [(2, 2 * STEPS), (3, 3 * STEPS)]
    assert all(torch.equal(inputs, shown()) for _, _, inputs, _ in watch.shown)
    with torch.inference_mode():
        expected = trained.generators["ab"](shown())
    for part, last in zip(expected, watch.shown[-1][3], strict=True):
        assert torch.equal(part, last) if part is not None else last is None


def test_observers_hear_of_a_checkpoint_when_it_is_there(tmp_path):
    watch = Watch()
    run(tmp_path, watch=watch, epochs=5, constant_epochs=1, checkpoint_every=2)
    assert watch.saves == [epoch * STEPS for epoch in (1, 2, 4, 5)]

    class Reads(Watch):
        def saved(self) -> None:
            super().saved()
            self.found = checkpoint.read(tmp_path / "other" / LATEST)["step"]
            assert self.found == self.rows[-1]["step"]

    run(tmp_path / "other", watch=(reads := Reads()))
    assert reads.found == 4 * STEPS


def test_showing_and_saving_change_nothing(whole, tmp_path):
    assert_same(run(tmp_path, watch=Watch(), sample_every=99, checkpoint_every=99), whole())


# The same bits.


@pytest.mark.parametrize("system", SYSTEMS)
def test_two_trainings_of_one_seed_are_the_same_bits_and_of_another_are_not(system, whole, tmp_path):
    assert_same(run(tmp_path / "again", system), whole(system))
    other = run(tmp_path / "other", system, seed=2, epochs=1, constant_epochs=1)
    assert other.history[0]["total"] != whole(system).history[0]["total"]


def test_bf16_trains_too_and_to_the_same_bits(whole, tmp_path):
    one = run(tmp_path / "one", epochs=1, precision="bf16")
    assert_same(one, run(tmp_path / "two", epochs=1, precision="bf16"))
    assert one.history[0]["cycle_a"] == pytest.approx(whole().history[0]["cycle_a"], rel=0.05)


# Interrupted and resumed.


@pytest.mark.parametrize(
    ("system", "stops"),
    [
        ("scheme2", (2,)),
        ("scheme2", (STEPS, 3 * STEPS)),
        ("scheme2", (STEPS + 1, 2 * STEPS + 1, 4 * STEPS)),
        ("scheme1", (STEPS + 2, 3 * STEPS + 1)),
        ("cyclegan", (STEPS + 2, 3 * STEPS + 1)),
    ],
    ids=str,
)
def test_a_training_that_was_stopped_equals_one_that_was_not(system, stops, whole, tmp_path):
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, system, Watch(stop_at=stop))
    watch = Watch()
    resumed = run(tmp_path, system, watch)
    last = (stops[-1] - 1) // STEPS  # a stop at the last step of an epoch comes before that epoch is saved
    assert watch.epochs == [last]
    assert watch.resumed_with == whole(system).history[: last * STEPS]
    assert_same(resumed, whole(system))


def test_a_finished_training_is_not_trained_again(whole, tmp_path):
    run(tmp_path)
    watch = Watch()
    assert_same(run(tmp_path, watch=watch), whole())
    assert watch.epochs == [4]
    assert not watch.rows


def test_the_seconds_of_all_processes_are_counted(tmp_path):
    run(tmp_path, watch=Watch(), epochs=2, constant_epochs=2)
    for name in (LATEST, PREVIOUS, checkpoint.BEFORE_DECAY):
        state = checkpoint.read(tmp_path / name)
        assert state["seconds"] > 0
        checkpoint.write(tmp_path / name, state | {"seconds": 1e6})
    result = run(tmp_path, watch=Watch(), epochs=3, constant_epochs=2)
    assert result.seconds > 1e6
    assert checkpoint.read(tmp_path / LATEST)["seconds"] > 1e6


def test_a_checkpoint_from_before_the_seconds_were_kept_is_used(tmp_path):
    run(tmp_path, epochs=2, constant_epochs=2)
    state = checkpoint.read(tmp_path / LATEST)
    del state["seconds"]
    checkpoint.write(tmp_path / LATEST, state)
    watch = Watch()
    assert 0 < run(tmp_path, watch=watch, epochs=3, constant_epochs=2).seconds < 1e6
    assert watch.epochs == [2]


def test_a_checkpoint_of_other_data_is_not_used(tmp_path):
    run(tmp_path, epochs=1, constant_epochs=1)
    watch = Watch(stop_at=1)
    with pytest.raises(KeyboardInterrupt):
        train(SYSTEMS["scheme2"], photos(), shown(), OPTIONS, tmp_path, {"data": "other"}, [watch])
    assert watch.epochs == [0]


# Longer trainings.


@pytest.mark.parametrize(("before", "after", "starts"), [((4, 2), (6, 2), 2), ((3, 2), (5, 3), 2), ((2, 2), (6, 2), 2)])
def test_a_longer_training_starts_before_the_decay_and_equals_a_fresh_one(before, after, starts, whole, tmp_path):
    run(tmp_path, epochs=before[0], constant_epochs=before[1])
    watch = Watch()
    longer = run(tmp_path, watch=watch, epochs=after[0], constant_epochs=after[1])
    assert watch.epochs == [starts]
    assert_same(longer, whole("scheme2", *after))


def test_a_training_whose_decay_would_have_begun_earlier_starts_anew(whole, tmp_path):
    run(tmp_path, epochs=4, constant_epochs=4)
    watch = Watch()
    assert_same(run(tmp_path, watch=watch), whole())
    assert watch.epochs == [0]


def test_a_shorter_training_takes_nothing_from_within_the_epoch_after_its_last(whole, tmp_path):
    """SIGTERM saves in the middle of the third of 4 epochs, the first with decay; then the training has only 2."""

    class Terminate(Watch):
        def losses(self, row: dict) -> None:
            if row["step"] == 2 * STEPS + 1:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        run(tmp_path, watch=Terminate(), log_every=1)
    assert checkpoint.read(tmp_path / LATEST)["step"] == 2 * STEPS + 1
    assert_same(run(tmp_path, epochs=2, constant_epochs=2), whole("scheme2", 2, 2))


def test_the_state_before_the_decay_stays_for_the_next_longer_training(tmp_path):
    for epochs in (3, 4, 5):
        watch = Watch()
        run(tmp_path, watch=watch, epochs=epochs, constant_epochs=2, checkpoint_every=99)
        assert watch.epochs == [0 if epochs == 3 else 2]


# Warm start.


def test_a_warm_start_begins_from_the_given_weights(whole, tmp_path):
    weights = {way: network.state_dict() for way, network in whole().generators.items()}
    still = {"epochs": 1, "constant_epochs": 1, "lr": 1e-12, "ema": 0.0, "seed": 7}
    warm = run(tmp_path / "warm", warm=weights, **still).generators
    for way in ("ab", "ba"):
        for name, value in warm[way].state_dict().items():
            torch.testing.assert_close(value, weights[way][name], rtol=0, atol=1e-9)
    half = run(tmp_path / "half", warm={"ab": weights["ab"]}, **still).generators
    cold = run(tmp_path / "cold", **still).generators
    assert torch.equal(half["ba"].encoder[1].weight, cold["ba"].encoder[1].weight)
    assert not torch.allclose(half["ab"].encoder[1].weight, cold["ab"].encoder[1].weight)


def test_a_resumed_warm_training_does_not_start_warm_again(whole, tmp_path):
    warm = {"warm": {"ab": whole().generators["ab"].state_dict()}, "epochs": 2, "constant_epochs": 1}
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", watch=Watch(stop_at=STEPS + 1), **warm)
    assert_same(run(tmp_path / "stopped", **warm), run(tmp_path / "whole", **warm))


# It learns.


ALONE = {
    "w_identity": 0.0,
    "w_pixel": 0.0,
    "w_gan": 1.0,
    "curriculum": False,
}  # else copying the input is the easy solution at 16 px


@pytest.mark.parametrize(
    ("system", "network"), [("cyclegan", {}), ("scheme1", ALONE), ("scheme2", {**ALONE, "background_bias": 0.0})]
)
def test_the_cycle_loss_falls_and_the_discriminators_learn_to_tell(system, network, tmp_path):
    schedule = {"epochs": 20, "constant_epochs": 20, "sample_every": 99, "checkpoint_every": 99, "lr": 1e-3}
    history = run(tmp_path, system, network={"filters": 8, **network}, **schedule).history
    assert len(history) == 60

    def fell(name: str) -> float:
        first, last = (np.mean([row[name] for row in rows]) for rows in (history[:4], history[-8:]))
        return last / first

    assert fell("cycle_a") < 0.7
    assert fell("cycle_b") < 0.7
    assert fell("d_a") < 1
    assert fell("d_b") < 1


# It gives up with advice.


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_training_that_explodes_stops_and_names_the_losses(system, tmp_path):
    with pytest.raises(Diverged) as caught:
        run(tmp_path, system, lr=1e30)
    message = str(caught.value)
    assert "total" in message
    assert "NaN or infinite by step" in message
    assert "lower schedule.lr" in message
    assert "starts anew" in message  # the rate is part of the fingerprint
    for path in tmp_path.iterdir():  # no checkpoint holds the broken history
        assert all(math.isfinite(row["total"]) for row in checkpoint.read(path)["history"])


@pytest.mark.parametrize(
    ("bias", "advice"),
    [(30.0, "the output equals the input: lower w_pixel"), (-30.0, "the whole photo is replaced: raise w_tv")],
)
def test_an_attention_that_collapsed_for_three_epochs_stops_with_advice(bias, advice, tmp_path):
    watch = Watch()
    with pytest.raises(Diverged, match=f"attention mask collapsed: attention_.. is .* for 3 epochs, so {advice}"):
        run(tmp_path, watch=watch, network={"background_bias": bias}, lr=1e-9, epochs=9)
    assert watch.rows[-1]["epoch"] == 2


def test_the_count_of_collapsed_epochs_survives_a_stop(tmp_path):
    stuck = {"network": {"background_bias": 30.0}, "lr": 1e-9, "epochs": 9}
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, watch=Watch(stop_at=2 * STEPS + 1), **stuck)
    watch = Watch()
    with pytest.raises(Diverged, match="collapsed"):
        run(tmp_path, watch=watch, **stuck)
    assert watch.epochs == [2]
    assert watch.rows[-1]["epoch"] == 2


def test_photos_that_do_not_fit_are_refused_before_any_step(tmp_path):
    with pytest.raises(ValueError, match="domain a has 12 photos of 18 px; crops are 32 px"):
        run(tmp_path, image_size=32)
    assert not list(tmp_path.iterdir())


def test_the_checkpoint_holds_the_whole_training(tmp_path):
    run(tmp_path, epochs=2)
    found = checkpoint.read(tmp_path / LATEST)
    assert {"system", "average", "optimizers", "pools", "history", "fingerprint", "epoch", "step"} <= set(found)
    assert found["pools"]["a"].shape == (4, 4, SIZE, SIZE)  # guided: [attention, image]
    assert {name for moment in found["optimizers"]["generators"].values() for name in moment} == {
        "step",
        "exp_avg",
        "exp_avg_sq",
    }
    assert checkpoint.read(tmp_path / PREVIOUS)["epoch"] == 1

"""The training loop at 16 px: what a step does, the same bits again, kills, longer trainings, and when it gives up."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import SIZE, SYSTEMS, TRAIN, pictures
from torch import Tensor

from bmask.data.dataset import to_tensor
from bmask.gan.system import build_system
from bmask.gan.translation import Translation
from bmask.training import checkpoint
from bmask.training.batches import Batches
from bmask.training.checkpoint import LATEST, PREVIOUS
from bmask.training.loop import Diverged, LoopOptions, Trained, train
from bmask.training.pool import ImagePool

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIONS = LoopOptions(
    epochs=4,
    constant_epochs=2,
    batch_size=3,
    lr=2e-3,
    image_size=SIZE,
    device="cpu",
    precision="fp32",
    threads=1,
    pool=4,
    ema=0.9,
    sample_every=1,
    checkpoint_every=1,
    log_every=1,
)
STEPS = TRAIN // 3  # in an epoch
FINGERPRINT = {"data": "tiny"}


def photos() -> dict[str, np.ndarray]:
    """18 px for crops of 16; two copies."""
    return {d: np.stack([pictures(TRAIN, 18, d == "a", seed) for seed in (0, 9)]) for d in "ab"}


def shown() -> Tensor:
    return to_tensor(pictures(2, SIZE, masked=True, seed=5))


class Watch:
    """An observer that remembers, and can stop the training at a step."""

    def __init__(self, stop_at: int | None = None):
        self.stop_at, self.epochs, self.rows, self.shown = stop_at, [], [], []

    def started(self, epoch: int, steps_per_epoch: int, history: list[dict]) -> None:
        self.epochs.append(epoch)
        self.steps_per_epoch, self.resumed_with = steps_per_epoch, list(history)

    def losses(self, row: dict) -> None:
        self.rows.append(row)
        if row["step"] == self.stop_at:
            raise KeyboardInterrupt

    def samples(self, epoch: int, step: int, inputs: Tensor, translated: Translation) -> None:
        self.shown.append((epoch, step, inputs.clone(), translated))


def run(folder: Path, system: str = "scheme2", watch: Watch | None = None, warm=None, network=None, **changes) -> Trained:
    options = dataclasses.replace(OPTIONS, **changes)
    recipe = dataclasses.replace(SYSTEMS[system], **(network or {}))
    return train(recipe, photos(), shown(), options, folder, FINGERPRINT, [watch] if watch else [], warm)


def assert_same(one: Trained, other: Trained) -> None:
    """The same history and the same generators, bit for bit."""
    assert one.history == other.history
    assert one.steps == other.steps
    weights, others = one.generators.state_dict(), other.generators.state_dict()
    assert list(weights) == list(others)
    for name, weight in weights.items():
        assert torch.equal(weight, others[name]), name


# What a step does.


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_loop_trains_as_a_plain_reading_of_the_papers_does(system, tmp_path):
    """Generators first, then discriminators on pooled fakes, Adam for each: written again without the loop."""
    trained = run(tmp_path, system, epochs=3, constant_epochs=1)
    torch.manual_seed(OPTIONS.seed)
    plain = build_system(SYSTEMS[system])
    adam = {"betas": (0.5, 0.999), "fused": False}
    generators = torch.optim.Adam(plain.generators.parameters(), lr=1.0, **adam)
    discriminators = torch.optim.Adam(plain.discriminators.parameters(), lr=1.0, **adam)
    device = torch.device("cpu")
    batches = {d: Batches(p, SIZE, 3, OPTIONS.seed, d, device) for d, p in photos().items()}
    pools = {domain: ImagePool(4, OPTIONS.seed, domain) for domain in "ab"}
    average = {name: value.clone() for name, value in plain.generators.state_dict().items()}
    for step in range(3 * STEPS):
        epoch = step // STEPS
        for optimizer in (generators, discriminators):
            optimizer.param_groups[0]["lr"] = 2e-3 * [1, 1, 0.5][epoch]
        a, b = batches["a"].at(step), batches["b"].at(step)
        made = plain.generator_losses(a, b)
        weights = plain.weights(epoch)
        total = sum(weights[name.split("_")[0]] * loss for name, loss in made.losses.items())
        gradients = torch.autograd.grad(total, list(plain.generators.parameters()))
        for parameter, gradient in zip(plain.generators.parameters(), gradients, strict=True):
            parameter.grad = gradient
        generators.step()
        fakes = {domain: pools[domain].swap(fake.detach(), step) for domain, fake in made.fakes.items()}
        judged = plain.discriminator_losses(a, b, fakes)
        gradients = torch.autograd.grad(sum(judged.values()), list(plain.discriminators.parameters()))
        for parameter, gradient in zip(plain.discriminators.parameters(), gradients, strict=True):
            parameter.grad = gradient
        discriminators.step()
        decay = min(OPTIONS.ema, (1 + step) / (10 + step))
        for name, value in plain.generators.state_dict().items():
            average[name] = decay * average[name] + (1 - decay) * value
        row = trained.history[step]
        assert row["total"] == pytest.approx(total.item(), rel=2e-3)
        for name, loss in {**made.losses, **judged}.items():
            assert row[name] == pytest.approx(loss.item(), rel=5e-3, abs=1e-4), (name, step)
    for name, value in trained.generators.state_dict().items():
        if name.endswith("weight"):  # a bias before a norm has no gradient but rounding, which Adam makes a step of
            torch.testing.assert_close(value, average[name], rtol=0, atol=2e-4)


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
    every = run(tmp_path / "1", log_every=1).history
    some = run(tmp_path / "3", log_every=3).history
    assert [row["step"] for row in some] == [3, 4, 7, 8, 11, 12, 15, 16]
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
        run(tmp_path / "said", watch=watch, epoch_photos=7)
    assert watch.steps_per_epoch == 2


def test_the_same_photos_are_shown_through_time_as_the_average_sees_them(tmp_path):
    watch = Watch()
    trained = run(tmp_path, watch=watch, epochs=5, constant_epochs=2, sample_every=2)
    assert [(epoch, step) for epoch, step, *_ in watch.shown] == [(2, 2 * STEPS), (4, 4 * STEPS), (5, 5 * STEPS)]
    assert all(torch.equal(inputs, shown()) for _, _, inputs, _ in watch.shown)
    with torch.inference_mode():
        expected = trained.generators["ab"](shown())
    for part, last in zip(expected, watch.shown[-1][3], strict=True):
        assert torch.equal(part, last)


def test_showing_saving_and_logging_change_nothing(tmp_path):
    one = run(tmp_path / "often", sample_every=1, checkpoint_every=1)
    other = run(tmp_path / "seldom", watch=Watch(), sample_every=99, checkpoint_every=99)
    assert_same(one, other)


# The same bits.


@pytest.mark.parametrize("system", SYSTEMS)
def test_two_trainings_of_one_seed_are_the_same_bits_and_of_another_are_not(system, tmp_path):
    one = run(tmp_path / "one", system, epochs=2)
    assert_same(one, run(tmp_path / "two", system, epochs=2))
    other = run(tmp_path / "three", system, epochs=2, seed=2)
    assert one.history != other.history


def test_bf16_trains_too_and_to_the_same_bits(tmp_path):
    one = run(tmp_path / "one", epochs=1, precision="bf16")
    assert_same(one, run(tmp_path / "two", epochs=1, precision="bf16"))
    exact = run(tmp_path / "fp32", epochs=1)
    assert one.history[0]["cycle_a"] == pytest.approx(exact.history[0]["cycle_a"], rel=0.05)


# Interrupted and resumed.


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("stops", [(2,), (STEPS, 3 * STEPS), (STEPS + 1, STEPS + 3, 4 * STEPS)], ids=str)
def test_a_training_that_was_stopped_equals_one_that_was_not(system, stops, tmp_path):
    whole = run(tmp_path / "whole", system)
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "stopped", system, Watch(stop_at=stop))
    watch = Watch()
    resumed = run(tmp_path / "stopped", system, watch)
    last = (stops[-1] - 1) // STEPS  # a stop at the last step of an epoch comes before that epoch is saved
    assert watch.epochs == [last]
    assert watch.resumed_with == whole.history[: last * STEPS]
    assert_same(resumed, whole)


VICTIM = f"""
import sys
sys.path[:0] = [{str(Path(__file__).parents[1])!r}, {str(Path(__file__).parent)!r}]
from pathlib import Path
from test_training import Watch, run

class Tell(Watch):
    def losses(self, row):
        print(row["step"], flush=True)

run(Path(sys.argv[1]), watch=Tell(), epochs=12, constant_epochs=6)
"""


def test_a_training_that_was_killed_twice_equals_one_that_was_not(tmp_path):
    for after in (2 * STEPS + 2, 7 * STEPS + 1):  # a step that is told; the kill falls somewhere behind it
        child = subprocess.Popen([sys.executable, "-c", VICTIM, str(tmp_path / "killed")], stdout=subprocess.PIPE, text=True)
        for line in child.stdout:
            if int(line) >= after:
                os.kill(child.pid, signal.SIGKILL)
                break
        assert child.wait() == -signal.SIGKILL
        child.stdout.close()
    watch = Watch()
    resumed = run(tmp_path / "killed", watch=watch, epochs=12, constant_epochs=6)
    assert watch.epochs[0] >= 7
    assert_same(resumed, run(tmp_path / "whole", epochs=12, constant_epochs=6))


def test_a_finished_training_is_not_trained_again(tmp_path):
    whole, watch = run(tmp_path), Watch()
    assert_same(run(tmp_path, watch=watch), whole)
    assert watch.epochs == [4]
    assert not watch.rows


def test_a_damaged_checkpoint_costs_an_epoch_and_not_the_training(tmp_path):
    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", watch=Watch(stop_at=3 * STEPS + 1))
    latest = tmp_path / "cut" / LATEST
    latest.write_bytes(latest.read_bytes()[:-100])
    watch = Watch()
    assert_same(run(tmp_path / "cut", watch=watch), whole)
    assert watch.epochs == [2]


def test_with_no_good_checkpoint_a_training_starts_anew(tmp_path):
    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", watch=Watch(stop_at=STEPS + 1))
    for path in (tmp_path / "cut").iterdir():
        path.write_bytes(b"")
    watch = Watch()
    assert_same(run(tmp_path / "cut", watch=watch), whole)
    assert watch.epochs == [0]


def test_a_checkpoint_of_other_data_is_not_touched_by_the_training(tmp_path):
    run(tmp_path, epochs=1, constant_epochs=1)
    watch = Watch()
    train(SYSTEMS["scheme2"], photos(), shown(), OPTIONS, tmp_path, {"data": "other"}, [watch])
    assert watch.epochs == [0]


# Longer trainings.


@pytest.mark.parametrize(("before", "after", "starts"), [((4, 2), (7, 2), 2), ((4, 2), (6, 3), 2), ((2, 2), (5, 2), 2)])
def test_a_longer_training_starts_before_the_decay_and_equals_a_fresh_one(before, after, starts, tmp_path):
    run(tmp_path / "longer", epochs=before[0], constant_epochs=before[1])
    watch = Watch()
    longer = run(tmp_path / "longer", watch=watch, epochs=after[0], constant_epochs=after[1])
    assert watch.epochs == [starts]
    assert_same(longer, run(tmp_path / "fresh", epochs=after[0], constant_epochs=after[1]))


def test_a_training_whose_decay_would_have_begun_earlier_starts_anew(tmp_path):
    run(tmp_path / "x", epochs=4, constant_epochs=3)
    watch = Watch()
    again = run(tmp_path / "x", watch=watch, epochs=4, constant_epochs=1)
    assert watch.epochs == [0]
    assert_same(again, run(tmp_path / "fresh", epochs=4, constant_epochs=1))


def test_the_state_before_the_decay_stays_for_the_next_longer_training(tmp_path):
    for epochs in (3, 4, 5):
        watch = Watch()
        run(tmp_path, watch=watch, epochs=epochs, constant_epochs=2, checkpoint_every=99)
        assert watch.epochs == [0 if epochs == 3 else 2]


# Warm start.


def test_a_warm_start_begins_from_the_given_weights(tmp_path):
    teacher = run(tmp_path / "teacher", epochs=1, constant_epochs=1).generators
    weights = {way: network.state_dict() for way, network in teacher.items()}
    still = {"epochs": 1, "constant_epochs": 1, "lr": 1e-12, "ema": 0.0, "seed": 7}
    warm = run(tmp_path / "warm", warm=weights, **still).generators
    for way in ("ab", "ba"):
        for name, value in warm[way].state_dict().items():
            torch.testing.assert_close(value, weights[way][name], rtol=0, atol=1e-9)
    half = run(tmp_path / "half", warm={"ab": weights["ab"]}, **still).generators
    cold = run(tmp_path / "cold", **still).generators
    assert torch.equal(half["ba"].encoder[1].weight, cold["ba"].encoder[1].weight)
    assert not torch.allclose(half["ab"].encoder[1].weight, cold["ab"].encoder[1].weight)


def test_a_resumed_warm_training_does_not_start_warm_again(tmp_path):
    weights = {"ab": run(tmp_path / "teacher", epochs=1).generators["ab"].state_dict()}
    whole = run(tmp_path / "whole", warm=weights)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", watch=Watch(stop_at=2 * STEPS + 1), warm=weights)
    assert_same(run(tmp_path / "stopped", warm=weights), whole)


# It learns.


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_cycle_loss_falls_and_the_discriminators_learn_to_tell(system, tmp_path):
    history = run(tmp_path, system, epochs=15, constant_epochs=15, network={"filters": 8}).history
    assert len(history) == 60
    for name in ("cycle_a", "cycle_b", "d_a", "d_b"):
        first, last = (np.mean([row[name] for row in rows]) for rows in (history[:4], history[-8:]))
        assert last < 0.8 * first, f"{name} went from {first:.3f} to {last:.3f}"


# It gives up with advice.


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_training_that_explodes_stops_and_names_the_losses(system, tmp_path):
    with pytest.raises(Diverged) as caught:
        run(tmp_path, system, lr=1e30)
    message = str(caught.value)
    assert "total" in message
    assert "NaN or infinite by step" in message
    assert "lower schedule.lr" in message
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
    assert {name for moment in found["optimizers"]["generators"] for name in moment} == {"step", "exp_avg", "exp_avg_sq"}
    assert checkpoint.read(tmp_path / PREVIOUS)["epoch"] == 1

"""What `auto` takes: the precision that is fast on a processor, processes by cores and photos, threads by both."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import joblib
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bmask.errors import ParamsError
from bmask.gan import device as devices
from bmask.gan.device import pick_precision
from bmask.params.sections import Schedule, Train
from bmask.placement import largest_share, place

CPU = torch.device("cpu")

# Precision.


@pytest.mark.parametrize(
    ("amx", "allowed", "avx512_bf16", "vendor", "expected"),
    [
        (True, True, True, "GenuineIntel", "bf16"),  # Sapphire Rapids
        (True, False, True, "GenuineIntel", "fp32"),  # Sapphire Rapids in a sandbox whose kernel forbids AMX
        (False, False, True, "GenuineIntel", "fp32"),  # Cooper Lake, or a virtual machine that hides AMX
        (False, False, True, "AuthenticAMD", "bf16"),  # Zen 4
        (False, False, False, "AuthenticAMD", "fp32"),  # Zen 3
        (False, False, False, "", "fp32"),  # no /proc/cpuinfo
    ],
)
def test_auto_takes_bf16_where_the_processor_is_faster_in_it(
    amx, allowed, avx512_bf16, vendor, expected, tmp_path, monkeypatch
):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_init_amx", lambda: allowed)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    if vendor:
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: fpu\n")
    monkeypatch.setattr(devices, "CPUINFO", tmp_path / "cpuinfo", raising=False)
    assert pick_precision("auto", CPU) == expected
    assert pick_precision("bf16", CPU) == "bf16"  # an explicit choice is kept
    assert pick_precision("fp32", CPU) == "fp32"


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="no Linux")
def test_this_processor_is_known_by_its_flags():
    told = Path("/proc/cpuinfo").read_text()
    flags = set(next(line for line in told.splitlines() if line.startswith("flags")).split())
    fast = "amx_bf16" in flags or ("avx512_bf16" in flags and "AuthenticAMD" in told)
    assert {pick_precision("auto", CPU) for _ in range(3)} == {"bf16" if fast else "fp32"}


# Processes and threads.


def placed(monkeypatch, cores: int, gpus: int = 0, batch: int = 4, parts: int = 1, couples: bool = False, **train):
    monkeypatch.setattr(joblib, "cpu_count", lambda: cores)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    schedule = Schedule(batch_size=batch, accumulate_steps=parts)
    return place(Train(precision="fp32", **train), schedule, couples_samples=couples)


@pytest.mark.parametrize(
    ("cores", "batch", "parts", "processes", "threads"),
    [
        (1, 4, 1, 1, 1),
        (2, 4, 1, 2, 1),
        (2, 1, 1, 1, 2),  # the published batch of 1 cannot be shared
        (2, 3, 1, 1, 2),
        (3, 4, 1, 2, 1),
        (4, 6, 1, 3, 1),
        (8, 4, 1, 4, 2),
        (8, 4, 2, 2, 4),  # two photos at a time
        (8, 4, 4, 1, 8),
        (64, 16, 1, 16, 4),
    ],
)
def test_on_a_cpu_auto_takes_a_process_a_core_as_far_as_photos_can_be_shared(
    cores, batch, parts, processes, threads, monkeypatch
):
    found = placed(monkeypatch, cores, batch=batch, parts=parts, device="cpu")
    assert (found.processes, found.threads) == (processes, threads)
    assert f"since there {'is 1 core' if cores == 1 else f'are {cores} cores'} for" in found.why


@pytest.mark.parametrize(
    ("gpus", "batch", "device", "processes"),
    [
        (1, 4, "auto", 1),  # one GPU: one process, whatever the cores
        (2, 4, "auto", 2),
        (4, 4, "cuda", 4),
        (4, 4, "cuda:1", 1),
        (4, 1, "auto", 1),
        (3, 4, "auto", 2),
        (8, 4, "cpu", 4),  # the GPUs are not to be used
    ],
)
def test_on_gpus_auto_takes_a_process_each(gpus, batch, device, processes, monkeypatch):
    assert placed(monkeypatch, 16, gpus, batch, device=device).processes == processes


def test_a_system_whose_losses_look_across_a_batch_gets_one_process(monkeypatch):
    for gpus in (0, 4):
        found = placed(monkeypatch, 8, gpus, couples=True)
        assert found.processes == 1
        assert "one process since its losses compare photos of a batch" in found.why


def test_what_is_stated_is_taken_and_auto_shares_what_is_left(monkeypatch):
    found = placed(monkeypatch, 8, processes=3, threads=5)
    assert (found.processes, found.threads, found.why) == (3, 5, "")
    assert placed(monkeypatch, 8, processes=2).threads == 4
    assert placed(monkeypatch, 8, threads=4).processes == 2
    assert placed(monkeypatch, 2, threads=2).processes == 1
    assert placed(monkeypatch, 2, threads=8).processes == 1


@pytest.mark.parametrize(("local", "threads"), [("2", 4), ("", 2)])
def test_under_torchrun_its_number_counts_and_the_cores_are_shared_by_the_processes_of_this_node(
    local, threads, monkeypatch
):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "here")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
    found = placed(monkeypatch, 8, batch=4)
    assert (found.processes, found.threads) == (4, threads)


def test_an_empty_variable_of_a_launcher_is_none(monkeypatch):
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.setenv(name, "")
    assert placed(monkeypatch, 2).processes == 2
    assert placed(monkeypatch, 2, gpus=2).device == "cuda"


def test_a_device_that_is_not_there_is_named_with_its_field(monkeypatch):
    with pytest.raises(ParamsError, match=r"train\.device: cuda is asked for, but torch sees no CUDA device"):
        placed(monkeypatch, 2, device="cuda")


@given(st.integers(1, 500), st.integers(1, 70))
def test_a_share_is_the_largest_that_is_equal(photos, workers):
    share = largest_share(photos, workers)
    assert 1 <= share <= workers
    assert photos % share == 0
    assert all(photos % more for more in range(share + 1, workers + 1) if more <= photos)


# Cores.

COUNT = [sys.executable, "-c", "from bmask.parallel import cores; print(cores())"]


def test_cores_that_this_process_may_not_use_do_not_count():
    assert subprocess.check_output(["taskset", "-c", "0", *COUNT], text=True).strip() == "1"


V2 = 'echo "{} 100000" > cpu.max'
V1 = "mkdir cpu && echo {} > cpu/cpu.cfs_quota_us && echo 100000 > cpu/cpu.cfs_period_us"


@pytest.mark.parametrize("version", [V1, V2], ids=["v1", "v2"])
def test_the_limit_of_a_container_counts(version):
    """Runs in its own mount namespace, with the kernel's files as in a container with a limit."""
    inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec"]
    mounted = "mount -t tmpfs none /sys/fs/cgroup && cd /sys/fs/cgroup"
    if subprocess.run([*inside, mounted], capture_output=True, check=False).returncode:
        pytest.skip("nothing may be mounted here")
    counts = f'{mounted} && {version.format(100000)} && exec "$0" "$@"'
    assert subprocess.check_output([*inside, counts, *COUNT], text=True).strip() == "1"

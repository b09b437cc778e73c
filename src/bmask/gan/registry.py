"""All systems by their options: where a new one is entered."""

from __future__ import annotations

from bmask.gan.options import CycleGANOptions, SystemOptions
from bmask.gan.system import System
from bmask.gan.systems.attentiongan import AttentionGAN
from bmask.gan.systems.cyclegan import CycleGAN


def build_system(options: SystemOptions) -> System:
    """The system that the options describe, initialised from torch's global seed."""
    return CycleGAN(options) if isinstance(options, CycleGANOptions) else AttentionGAN(options)

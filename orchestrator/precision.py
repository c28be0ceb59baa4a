"""Which precision the hardware is made for, read off its features and never off a clock."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

CPU_INFO = Path("/proc/cpuinfo")
BF16_FEATURES = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Processor features that multiply bfloat16 in hardware: Intel and AMD; AMX; Arm."""


def processor_features(cpu_info: Path = CPU_INFO) -> frozenset[str]:
    """List the features that all processors here have; none where the system does not say."""
    if not cpu_info.exists():
        return frozenset()
    each = [
        frozenset(line.partition(":")[2].split())
        for line in cpu_info.read_text(encoding="utf-8", errors="replace").splitlines()
        if line.partition(":")[0].strip() in {"flags", "Features"}
    ]
    return frozenset.intersection(*each) if each else frozenset()


def resolve_precision(gpus: int, features: frozenset[str] | None = None) -> Literal["fp32", "bf16"]:
    """Say what ``precision: auto`` means on these processors, or on the GPUs if asked.

    Raises ``ValueError`` if GPUs are asked and none is here to look at.
    """
    if gpus == 0:
        found = processor_features() if features is None else features
        return "bf16" if found & BF16_FEATURES else "fp32"
    import torch

    if not torch.cuda.is_available():
        raise ValueError(
            "train.precision is auto and scaling.gpus is above 0, but this machine has no GPU to "
            "look at; set train.precision to fp32 or bf16"
        )
    return "bf16" if torch.cuda.get_device_capability()[0] >= 8 else "fp32"

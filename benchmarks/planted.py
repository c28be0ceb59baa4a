"""Whether studies find what is planted: a helper that helps, one that harms, one that is noise.

    python benchmarks/planted.py --repeats 40 --seeds 8 --folder runs/planted

Each repeat draws a new language: words that are good or bad, and sentences of five of them. The
target asks whether good or bad words are more; its few training rows know a quarter of the words.
*helpful* asks the same of many sentences of all words; *harmful* agrees on the words that the
target's rows know, and takes all others for their opposite; *noise* has labels at random. Each
repeat is a study of four arms, the target alone and with each helper, on paired seeds;
what ``findings`` calls significant, after Holm's correction of the three declared comparisons,
is counted. Goes on where it was left, and prints the counts of the repeats that have ended.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from chain import Arms, Chain, begun

from orchestrator.access import secure_ray
from orchestrator.experiment import parse
from orchestrator.studies import findings, study
from orchestrator.studies.agenda import Listed

WORDS, KNOWN, LONG = 120, 30, 5
HELPERS = ("helpful", "harmful", "noise")
ROWS = {"target": 40, "helper": 1500, "validation": 300, "test": 300}
ALONE = "target alone"


def language(folder: Path, repeat: int) -> None:
    """Write the four tasks of one repeat, each a folder of JSON lines."""
    random = np.random.default_rng(repeat)
    good = random.permutation(np.repeat([-1, 1], WORDS // 2))
    turned = np.where(np.arange(WORDS) < KNOWN, good, -good)
    senses = {"target": good, "helpful": good, "harmful": turned, "noise": None}
    for task, sense in senses.items():
        (folder / task).mkdir(parents=True, exist_ok=True)
        for split in ("train", "validation", "test"):
            known = {"train": ROWS["target" if task == "target" else "helper"]}
            size = known.get(split, ROWS.get(split, 0))
            few = task == "target" and split == "train"
            words = random.integers(0, KNOWN if few else WORDS, (size, LONG))
            label = random.choice([-1, 1], size) if sense is None else np.sign(sense[words].sum(1))
            lines = [
                json.dumps({"text": " ".join(f"w{n}" for n in row), "label": f"{int(own)}"})
                for row, own in zip(words, label, strict=True)
            ]
            (folder / task / f"{split}.jsonl").write_text("\n".join(lines) + "\n")


def tree(folder: Path, steps: int) -> dict[str, Any]:
    """Give the experiment of one repeat."""
    tasks = {
        task: {
            "family": "classify",
            "data": {"path": str(folder / task), "text": "text", "label": "label"},
        }
        for task in ("target", *HELPERS)
    }
    return {
        "name": "planted",
        "encoder": {"model": "tiny"},
        "tasks": tasks,
        "target": "target",
        "mixture": {"uniform": True},
        "optimizer": {"lr": 2e-3, "schedule": "constant"},
        "batch": {"tokens": 256, "micro_tokens": 512},
        "train": {"steps": steps, "evaluate_every": steps, "precision": "fp32"},
        "scaling": {"workers": 1, "threads": 1},
    }


def repeat(folder: Path, number: int, seeds: int, steps: int) -> Listed:
    """Make the study of one repeat."""
    place = folder / f"{number:02d}"
    language(place / "data", number)
    pairs = {f"target + {helper}": helper for helper in HELPERS}
    arms: Arms = {
        ALONE: ("baseline", {f"tasks.{helper}": None for helper in HELPERS}),
        **{
            name: ("arm", {f"tasks.{other}": None for other in HELPERS if other != helper})
            for name, helper in pairs.items()
        },
    }
    question = {
        "what": "add-one-in",
        "target": "target",
        "metric": "target/accuracy",
        "baseline": ALONE,
        "comparisons": [[name, ALONE] for name in pairs],
    }
    return begun(place, tree(place / "data", steps), arms, range(seeds), question)


def table(folder: Path) -> None:
    """Print how often each helper was found to help and to harm, over the repeats that ended."""
    found = {helper: {"helps": 0, "harms": 0, "gain": 0.0} for helper in HELPERS}
    ended = 0
    for place in sorted(folder.glob("*/study")):
        own = findings.find(study.Study(place))
        if own.spent.waiting or any(one.mean is None for one in own.declared):
            continue
        ended += 1
        for one in own.declared:
            helper = one.arm.removeprefix("target + ")
            found[helper]["gain"] += float(one.mean or 0.0)
            if one.significant:
                found[helper]["helps" if (one.mean or 0.0) > 0 else "harms"] += 1
    print(f"{ended} repeats")
    print("| helper | found to help | found to harm | mean gain in accuracy |")
    print("|---|---|---|---|")
    for helper, own in found.items():
        gain = own["gain"] / max(1, ended)
        print(f"| {helper} | {own['helps']} | {own['harms']} | {gain:+.3f} |")


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--folder", type=Path, default=Path("runs/planted"))
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="print what there is, run nothing")
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if not asked.table:
        secure_ray()
        from orchestrator.studies import tuning

        source = Chain(
            [partial(repeat, folder, n, asked.seeds, asked.steps) for n in range(asked.repeats)]
        )
        tuning.run(folder, source, parse(tree(folder, asked.steps)), asked.parallel)
    table(folder)


if __name__ == "__main__":
    main()

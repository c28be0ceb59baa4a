"""A swarm of short trials on real data: does the surrogate foretell, and is its mixture better?

    TLMT_DATA=... python benchmarks/swarm.py --folder runs/swarm

Roles are known of 1,000 sentences (experiments/low_resource_roles.yaml), ``tiny`` learns them with
three helpers in short trials. The surrogate searches the mixture; a random search with another seed
gives trials that it never saw. Then its mixture, equal shares and the target alone are trained on
seeds that neither had. Prints the rank correlations, by leave-one-out and on the trials it never
saw, and the scores on test with 95 % intervals. Goes on where it was left.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from chain import Arms, begun
from scipy import stats

from orchestrator.access import secure_ray
from orchestrator.experiment import places
from orchestrator.studies import driver, findings, laws, searching
from orchestrator.studies.study import FILE, Study
from orchestrator.studies.surrogate import Tried

EXPERIMENT = Path(__file__).parent.parent / "experiments" / "low_resource_roles.yaml"
CHANGES = [
    "encoder.model=tiny",
    "optimizer.lr=2e-3",
    "batch={tokens: 1024, micro_tokens: 1024}",
    "scaling.threads=1",
    "tracking.log_model=false",
]
FRESH = 1000
"""The first seed that no search has seen."""
ALONE, EQUAL, FOUND = "roles alone", "equal shares", "found mixture"


def searched(folder: Path, name: str, search: str, count: int, seed: int, how: driver.How) -> Study:
    """Run a search, or go on with it."""
    place = folder / "studies" / f"{name}-tune-mixture"
    if (place / FILE).is_file():
        return driver.resume(place, how)
    changes = [*CHANGES, f"name={name}", f"train.seed={seed}", f"storage.path={folder}"]
    asked = ("mixture", count, search, "none", None, [])
    return driver.tune(EXPERIMENT, changes, *asked, folder / "studies", how)


def arrays(tried: list[Tried], tasks: list[str], target: str) -> tuple[laws.Array, laws.Array]:
    """Give the shares ``[n, tasks]`` and the target's scores ``[n]`` of trials."""
    shares = np.array([[one.shares.get(task, 0.0) for task in tasks] for one in tried])
    return shares, np.array([one.scores[target] for one in tried])


def foretold(own: Study, unseen: Study) -> None:
    """Print how well the trials of one study foretell the order of another's."""
    tasks, target = sorted(own.prepared.tasks), str(own.question["target"])
    known = arrays(searching.tried(own), tasks, target)
    new = arrays(searching.tried(unseen), tasks, target)
    name, law, guesses = laws.chosen(*known)
    inner = stats.spearmanr(guesses, known[1]).statistic
    outer = stats.spearmanr(law.predict(new[0]), new[1]).statistic
    print(f"law of {target}: {name}")
    print(f"rank correlation by leave-one-out, {len(guesses)} trials: {inner:.2f}")
    print(f"rank correlation on {len(new[1])} trials it never saw: {outer:.2f}")
    for trials, what in ((known, "searched"), (new, "random")):
        low, middle, high = np.percentile(trials[1], [0, 50, 100])
        print(f"{what}: validation F1 {low:.3f} to {high:.3f}, median {middle:.3f}")


def confirmed(folder: Path, own: Study, seeds: int, how: driver.How) -> None:
    """Train the found mixture, equal shares and the target alone on fresh seeds; print the test."""
    trials = driver.trials_of(own.question["experiment"], own.question["origin"])
    agenda = driver.agenda_of(own, trials, how)
    fit = searching.search(own.question, trials).fit(agenda.view())  # type: ignore[union-attr]
    shares = ", ".join(f"{task} {share:.3f}" for task, share in fit.tried.items())
    print(f"found mixture: {shares}; trusted: {'yes' if fit.trusted else 'no'}")
    level = {"mixture.temperature": None}
    helpers = {f"tasks.{task}": None for task in trials.base.tasks if task != trials.base.target}
    arms: Arms = {
        ALONE: ("baseline", {**helpers, **level}),
        EQUAL: ("baseline", {**level, "mixture.uniform": True}),
        FOUND: ("arm", {**level, "mixture.shares": fit.tried}),
    }
    question = {
        "what": "swarm",
        "target": trials.base.target,
        "metric": own.question["metric"],
        "baseline": ALONE,
        "comparisons": [[FOUND, ALONE], [FOUND, EQUAL]],
    }
    from orchestrator.studies import tuning

    fresh = range(FRESH, FRESH + seeds)
    tree, place = own.question["experiment"], folder / "fresh"
    listed = begun(place, tree, arms, fresh, question, places(EXPERIMENT))
    tuning.run(place, listed, trials.base, how.parallel)
    found = findings.find(listed.study, final=True)
    print(f"| arm | test F1, {seeds} fresh seeds |\n|---|---|")
    for arm in found.arms:
        print(f"| {arm.name} | {arm.mean:.3f} [{arm.low:.3f}, {arm.high:.3f}] |")
    for one in found.declared:
        print(f"{one.arm} - {one.other}: {one.mean:+.3f} [{one.low:+.3f}, {one.high:+.3f}]", end="")
        print(f", p {one.p:.4f}, after Holm {one.adjusted:.4f}")


def main() -> None:
    """Run what is missing, then print all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=36)
    parser.add_argument("--unseen", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--folder", type=Path, default=Path("runs/swarm"))
    parser.add_argument("--parallel", type=int, default=2)
    asked = parser.parse_args()
    secure_ray()
    folder, how = asked.folder.resolve(), driver.How(asked.parallel)
    CHANGES.extend([f"train.steps={asked.steps}", f"train.evaluate_every={asked.steps // 2}"])
    own = searched(folder, "swarm", "surrogate", asked.trials, 0, how)
    unseen = searched(folder, "unseen", "random", asked.unseen, 1, how)
    foretold(own, unseen)
    confirmed(folder, own, asked.seeds, how)


if __name__ == "__main__":
    main()

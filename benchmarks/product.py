"""Our side: a real run on Ray Train and DeepSpeed, whose workers take a step when asked to.

All is the product's own: ``Launch``, its workers, and the loop that they drive, which here rests
between the driver's turns and ends before it would evaluate and save for the first time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from turns import Clock, Turns

from orchestrator import loop, training
from orchestrator.access import secure_ray
from orchestrator.experiment import load

Train = Callable[[training.Work], Iterator[loop.News]]


def by_turns(real: Train, port: int) -> Train:
    """Give ``loop.train`` as it is, but for resting after the steps that were asked for."""

    def train(work: training.Work) -> Iterator[loop.News]:
        going = real(work)
        yield next(going)  # all is loaded
        turns = Turns(port, work.world.rank)
        for count in turns.requests():
            steps = []
            for _ in range(count):
                with Clock() as clock:
                    news = next(going)
                seconds = news.values["speed/seconds_per_step"]
                tokens = round(news.values["speed/tokens_per_second"] * seconds)
                steps.append(clock.step(tokens))
                yield news
            turns.answer(steps)

    return train


def main() -> None:
    """Launch the run in a folder and wait for its end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="a run's folder")
    parser.add_argument("--port", type=int, required=True, help="where the driver listens")
    options = parser.parse_args()
    secure_ray()
    from orchestrator import launch

    port = options.port

    def work(config: dict[str, Any]) -> None:
        from orchestrator import launch, loop  # the worker's own

        loop.train = by_turns(loop.train, port)
        launch.work(config)

    launch.work = work
    run = launch.Launch(load(options.folder / "experiment.yaml"), options.folder, 1)
    try:
        while run.running:
            time.sleep(0.25)
    finally:
        run.close()
    if run.error is not None:
        raise run.error


if __name__ == "__main__":
    main()

"""Features of a resting encoder: each text is read once, and training goes as if it were not so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from encoders.encoder import Encoder
from orchestrator import training
from orchestrator.batch import HIDDEN, collate
from orchestrator.checkpoint import Progress
from orchestrator.features import kept_tokens, thinned
from orchestrator.model import MultiTaskModel
from orchestrator.readings import Reader
from orchestrator.stacking import Stacked
from orchestrator.training import Training
from tasks.classify import Classify
from tasks.helper import Kind
from tasks.tag import Tag
from tasks.texts import TextHead
from tests.family_rows import TEXTS, WORD_CLASSES
from tests.looped import MakeWork, last, trained, values
from tests.reading import fitted
from tests.toy import ToyEncoder, ToyRun

HEADS = [{"name": "heads", "train": ["heads"]}]
TWO = {"sequences": np.array([4, 3]), "words": np.array([1, 2, 5])}


@pytest.mark.parametrize(
    ("reads", "summary", "expected"),
    [
        ("tokens", "first", [0, 1, 2, 3, 4, 5, 6]),
        ("summary", "first", [0, 4]),
        ("summary", "last", [3, 6]),
        ("words", "first", [0, 1, 2, 4, 5]),
        ("words", "last", [1, 2, 3, 5, 6]),
    ],
)
def test_only_what_a_head_reads_is_kept(reads: Any, summary: str, expected: list[int]) -> None:
    assert kept_tokens(TWO, reads, summary).tolist() == expected


@pytest.mark.parametrize("task", ["tags", "texts"])
@pytest.mark.parametrize("summary", ["first", "last"])
def test_a_head_answers_alike_on_what_is_kept(task: str, summary: str) -> None:
    run = ToyRun()
    model = run.model().eval()
    examples = run.data[task][:5]
    whole = collate({task: examples}, run.families, summary)
    states = model.read(whole).numpy()
    thin, first = [], 0
    for own in examples:
        places = kept_tokens(own, "words" if task == "tags" else "summary", summary)
        thin.append(thinned(own, places, states[first + places]))
        first += len(own["input_ids"])
    expected = model(whole)[task]
    model.kept = frozenset({task})
    batch = collate({task: thin, "rare": run.data["rare"][:2]}, run.families, summary)
    assert HIDDEN in batch.rows[task].columns
    found = model(batch)
    torch.testing.assert_close(found[task], expected)
    alone = collate({"rare": run.data["rare"][:2]}, run.families, summary)
    model.kept = frozenset()
    torch.testing.assert_close(found["rare"], model(alone)["rare"])


def test_a_resting_encoder_reads_no_text_twice(
    work: MakeWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    forward = Encoder.forward

    def counted(self: Encoder, ids: Any, *given: Any) -> Any:
        read.append(len(ids))
        return forward(self, ids, *given)

    monkeypatch.setattr(Encoder, "forward", counted)
    own = work(stages=HEADS, **{"train.steps": 40, "train.evaluate_every": 10})
    training = Training(own, own.stages[0], Progress(0))
    before = sum(read)
    while not training.done:
        training.step()
        if training.progress.step % 10 == 0:
            training.evaluate()
    assert sum(read) == before
    files = {path.name for path in (own.run / "features" / "heads").iterdir()}
    assert files == {f"{t}-{s}.npy" for t in own.experiment.tasks for s in ("train", "validation")}
    training.close()
    assert not (own.run / "features").exists()


def test_training_goes_as_if_each_step_read_its_texts(
    work: MakeWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, live = work("kept", stages="lp_ft"), work("live", stages="lp_ft")
    told = values(trained(kept))
    monkeypatch.setattr(training.Training, "_keep", lambda self, model: frozenset())
    for key, value in values(trained(live)).items():
        assert told[key] == pytest.approx(value, rel=1e-4, abs=1e-5), key
    right = last(live)
    for name, value in last(kept).items():
        torch.testing.assert_close(value, right[name], rtol=1e-3, atol=1e-4)


def test_a_disk_without_room_is_told(work: MakeWork, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        free = 10

    monkeypatch.setattr("shutil.disk_usage", lambda folder: Full)
    own = work(stages=HEADS)
    with pytest.raises(OSError, match=r"needs 0\.0 GB .* Make room, or set storage\.path"):
        Training(own, own.stages[0], Progress(0))


def test_a_task_that_draws_what_it_reads_keeps_nothing(
    work: MakeWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = work()
    model = Training(own, own.stages[0], Progress(0)).engine.model
    monkeypatch.setattr(type(model.head("topic")), "reads", None)
    reader = Reader(model, own.run, 100, own)
    rows = own.prepared.open("topic", "train")
    assert reader.tasks == frozenset()
    assert reader.kept("topic", "train", rows, [0]) is rows


class Averaging(TextHead):
    """Tells of a whole text by what its tokens say."""

    reads = "tokens"


@pytest.mark.parametrize(
    ("target", "helpers", "reads"),
    [
        ("text", ["other"], "summary"),
        ("text", ["tags"], "tokens"),
        ("tags", ["text"], "words"),
        ("text", ["mean"], "tokens"),
        ("tags", ["mean", "text"], "tokens"),
    ],
)
def test_what_helpers_read_is_kept_for_the_target(
    target: str, helpers: list[str], reads: str
) -> None:
    families = {
        **dict.fromkeys(("text", "other", "mean"), fitted(Classify, TEXTS)),
        "tags": fitted(Tag, WORD_CLASSES),
    }
    asked: dict[str, Kind] = dict.fromkeys(helpers, "logits")
    model = MultiTaskModel(ToyEncoder(), families, {}, 0, stacked=Stacked(target, asked))
    model.head("mean").__class__ = Averaging
    assert model.reads(target) == reads
    assert model.reads("other") == "summary", "a helper's own rows need no more than before"

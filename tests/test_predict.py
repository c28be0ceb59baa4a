"""A run's folder answers new texts alone, each record the same in any company."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import trained

from orchestrator import predict
from orchestrator.predict import Predictor

TEXTS = [
    trained.TEXT,
    "A clever sailor praised the long report.",
    "The teacher who lost her keys found a small lantern near the river, and she kept it.",
]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load(trained.run())


def test_every_task_answers_in_its_own_form(predictor: Predictor) -> None:
    (answer,) = predictor([{"text": trained.TEXT}])
    assert set(answer) == set(trained.TASKS)
    assert answer["sentiment"]["label"] in answer["sentiment"]["probabilities"]
    assert sum(answer["sentiment"]["probabilities"].values()) == pytest.approx(1)
    for span in answer["marks"]:
        assert trained.TEXT[span["start"] : span["end"]] == span["text"]
    for frame in answer["roles"]:
        assert set(frame) == {"predicate", "arguments"}


def test_a_given_predicate_is_the_one_answered(predictor: Predictor) -> None:
    (answer,) = predictor([{"text": trained.TEXT, "predicate": "sold"}], "roles")
    (frame,) = answer["roles"]
    start = trained.TEXT.index("sold")
    assert (frame["predicate"]["start"], frame["predicate"]["end"]) == (start, start + 4)


def test_a_record_is_answered_alike_alone_and_among_others(predictor: Predictor) -> None:
    records = [{"text": text, "predicate": 2} for text in TEXTS]
    together = predictor(records * 3)
    for place, record in enumerate(records * 3):
        (alone,) = predictor([record])
        assert alone["marks"] == [
            {**span, "score": pytest.approx(span["score"], abs=1e-5)}
            for span in together[place]["marks"]
        ]
        probabilities = together[place]["sentiment"]["probabilities"]
        assert alone["sentiment"]["probabilities"] == pytest.approx(probabilities, abs=1e-5)


def test_more_records_than_fit_one_forward_are_all_answered(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = predictor([{"text": text} for text in TEXTS], "sentiment")
    monkeypatch.setattr(predict, "TOKENS", 20)
    parts = predictor([{"text": text} for text in TEXTS], "sentiment")
    for one, other in zip(whole, parts, strict=True):
        probabilities = other["sentiment"]["probabilities"]
        assert one["sentiment"]["probabilities"] == pytest.approx(probabilities, abs=1e-5)


def test_one_task_alone_can_be_asked(predictor: Predictor) -> None:
    (answer,) = predictor([{"text": trained.TEXT}], "sentiment")
    assert set(answer) == {"sentiment"}


def test_a_text_that_is_cut_is_told(predictor: Predictor, caplog: pytest.LogCaptureFixture) -> None:
    long = "word " * 600
    (answer,) = predictor([{"text": long}], "marks")
    assert "record 1, task marks: the text has more than 512 tokens" in caplog.text
    assert all(span["end"] <= len(long) for span in answer["marks"])


def test_no_records_give_no_answers(predictor: Predictor) -> None:
    assert predictor([]) == []


@pytest.mark.parametrize("record", [{}, {"text": 5}, {"text": None}, "a text", {"texts": "x"}])
def test_a_record_without_a_text_is_named(predictor: Predictor, record: object) -> None:
    with pytest.raises(ValueError, match=r"record 2: found .* expected a mapping with 'text'"):
        predictor([{"text": "fine"}, record])  # type: ignore[list-item]


def test_a_predicate_that_is_not_in_the_text_is_named(predictor: Predictor) -> None:
    with pytest.raises(ValueError, match=r"record 1, task roles: .*predicate"):
        predictor([{"text": trained.TEXT, "predicate": "flew"}])


def test_an_unknown_task_is_answered_with_the_nearest(predictor: Predictor) -> None:
    with pytest.raises(LookupError, match="'role'; did you mean roles"):
        predictor([{"text": trained.TEXT}], "role")


def test_a_run_without_a_checkpoint_says_so(tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained.run(), run, ignore=shutil.ignore_patterns("checkpoints"))
    with pytest.raises(LookupError, match="no whole checkpoint"):
        Predictor.load(run)


def test_a_fresh_process_without_the_data_predicts_the_same(
    predictor: Predictor, tmp_path: Path
) -> None:
    run = tmp_path / "elsewhere"
    shutil.copytree(trained.run(), run)
    (run / "journal.jsonl").unlink()
    prepared = run / "prepared.json"
    prepared.write_text(prepared.read_text().replace("/cache/", "/no-longer-there/"))
    program = (
        "import json, sys; from pathlib import Path\n"
        "from orchestrator.predict import predict\n"
        "print(json.dumps(predict(Path(sys.argv[1]), [{'text': sys.argv[2]}])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(run), trained.TEXT],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        cwd=tmp_path,
    )

    assert json.loads(done.stdout) == predictor([{"text": trained.TEXT}])

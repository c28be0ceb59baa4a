"""Sounds: each is read as if it were alone, at the network's rate; tones are told apart."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import drawn
import numpy as np
import pytest
import soundfile
import torch
import torch.distributed as dist
import transformers
from torch import Tensor
from workers import Workers

import encoders
from encoders.speech import SpeechEncoder
from orchestrator import export
from orchestrator.batch import collate
from orchestrator.engine import DeepSpeedEngine, Engine, PlainEngine, join
from orchestrator.joint_step import joint_step
from orchestrator.model import MultiTaskModel
from orchestrator.optimizer import groups
from orchestrator.predict import Predictor, example
from orchestrator.sections import Optimizer
from tasks.classify import Classify
from tasks.media import Media
from tasks.opened import look

KINDS = tuple(drawn.SOUNDS)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: drawn.sound_encoder(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}


@pytest.fixture
def encoder(request: pytest.FixtureRequest, folders: dict[str, Path]) -> SpeechEncoder:
    loaded = encoders.load(str(folders[request.param]), folder=folders[request.param]).eval()
    assert isinstance(loaded, SpeechEncoder)
    return loaded


def every(*kinds: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("encoder", kinds or KINDS, indirect=True)


def media(folder: Path, *sounds: Any, rate: int = drawn.RATE) -> list[Media]:
    found = []
    for place, sound in enumerate(sounds):
        soundfile.write(folder / f"{place}.wav", sound, rate, subtype="FLOAT")
        cell = look("audio", "audio", f"{place}.wav", folder)
        assert isinstance(cell, dict)
        found.append(Media(cell))
    return found


def states(encoder: SpeechEncoder, given: list[Media], limit: int | None = None) -> list[Tensor]:
    """Give the hidden states of each sound."""
    lengths = [len(one) for one in encoder.reader(given, limit)]
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    return list(encoder(*encoder.signals(given, lengths), offsets).split(lengths))


LENGTHS = (0.3, 0.1, 0.2, 0.1)


@every()
def test_states_are_those_of_each_sound_alone_in_plain_transformers(
    encoder: SpeechEncoder, folders: dict[str, Path], tmp_path: Path
) -> None:
    sounds = [drawn.tone(n, "low", seconds).astype(np.float32) for n, seconds in enumerate(LENGTHS)]
    (kind,) = (kind for kind in folders if encoder.reader.config.name_or_path == str(folders[kind]))
    processor = transformers.AutoFeatureExtractor.from_pretrained(folders[kind])
    plain = transformers.AutoModel.from_pretrained(folders[kind]).eval()
    plain = plain.get_encoder() if kind == "whisper" else plain
    for sound, found in zip(sounds, states(encoder, media(tmp_path, *sounds)), strict=True):
        given = processor(sound, sampling_rate=drawn.RATE, return_tensors="pt")
        hidden = plain(given[processor.model_input_names[0]]).last_hidden_state[0]
        own = -(-len(sound) // 320) if kind == "whisper" else len(hidden)
        torch.testing.assert_close(found[1:], hidden, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found[0], hidden[:own].mean(0), rtol=1e-4, atol=1e-4)


@every()
def test_a_sound_at_another_rate_in_two_channels_is_nearly_the_same(
    encoder: SpeechEncoder, tmp_path: Path
) -> None:
    once = np.sin(2 * np.pi * 440 * np.arange(4800) / drawn.RATE)
    twice = np.sin(2 * np.pi * 440 * np.arange(9600) / (2 * drawn.RATE))
    (tmp_path / "other").mkdir()
    (one,) = states(encoder, media(tmp_path, once))
    (other,) = states(
        encoder,
        media(tmp_path / "other", np.stack([twice, twice], 1), rate=2 * drawn.RATE),
    )
    assert one.shape == other.shape
    assert torch.cosine_similarity(one[0], other[0], 0) > 0.98


@every("wav2vec2", "stable")
def test_a_long_sound_is_cut_and_a_short_one_padded(encoder: SpeechEncoder, tmp_path: Path) -> None:
    sound = drawn.tone(0, "low", 0.5)
    given = media(tmp_path, sound, sound[:5])
    long, short = encoder.reader(given, 20)
    assert (len(long), long.truncated) == (20, True)
    assert (len(short), short.truncated) == (2, False)
    whole = encoder.reader(given)[0]
    assert not whole.truncated
    cut, padded = states(encoder, given, 20)
    assert cut.shape[0] == 20
    assert torch.isfinite(padded).all()


@every()
def test_all_that_learns_gets_a_gradient_also_of_no_sounds(
    encoder: SpeechEncoder, tmp_path: Path
) -> None:
    encoder.train()
    copied = copy.deepcopy(encoder)
    (found,) = states(encoder, media(tmp_path, drawn.tone(0, "low")))
    found.square().sum().backward()
    nothing = copied(*copied.signals([], []), torch.tensor([0]))
    assert nothing.shape == (0, encoder.width)
    nothing.sum().backward()
    for name, weight in copied.named_parameters():
        assert weight.requires_grad == (weight.grad is not None), name
    for name, weight in encoder.named_parameters():
        assert weight.requires_grad == (weight.grad is not None), name


@every("wav2vec2", "whisper")
def test_a_saved_encoder_comes_back_and_draws_nothing_by_itself(
    encoder: SpeechEncoder, tmp_path: Path
) -> None:
    given = media(tmp_path, drawn.tone(0, "low"), drawn.tone(1, "high", 0.1))
    expected = states(encoder, given)
    encoder.save(tmp_path / "saved")
    again = encoders.load(str(tmp_path / "saved"))
    assert isinstance(again, SpeechEncoder)
    assert again.digest() == encoder.digest()
    assert again.reader.digest() == encoder.reader.digest()
    # No dropout: in training mode nothing else is drawn, neither layers nor masks.
    for one, other in zip(states(again, given), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["wav2vec2", "whisper"])
def test_tones_are_learnt_answered_by_path_and_exported(
    folders: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    data = str(drawn.tones(tmp_path / "data"))
    pitch = {"family": "classify", "data": {"path": data, "audio": "file", "label": "pitch"}}
    own = drawn.work(
        tmp_path,
        folders[kind],
        {"pitch": pitch},
        batch={"tokens": 600, "micro_tokens": 300},
        train={"steps": 30, "evaluate_every": 30, "precision": "fp32"},
    )
    assert drawn.trained(own)["pitch/validation/accuracy"] > 0.9
    answers = []
    for place, name in ((1000, "low"), (1001, "high")):
        path = tmp_path / f"{name}.ogg"
        soundfile.write(path, drawn.tone(place, name), drawn.RATE)
        answers += Predictor.load(own.run)([{"audio": str(path)}])
    assert [answer["pitch"]["label"] for answer in answers] == ["low", "high"]
    (done,) = export.export(own.run, tmp_path / "out")
    name = {"wav2vec2": "Wav2Vec2Model", "whisper": "WhisperEncoder"}[kind]
    assert f"`{name}` and `AutoFeatureExtractor`" in (done.folder / "README.md").read_text()


def stepped(stage: int | None, network: str, sounds: str) -> dict[str, Tensor]:
    """Take two steps on this rank's sounds, which are of other lengths than another rank's."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    encoder = encoders.load(network)
    family = Classify(Classify.Data(path="x", audio="file"), {"labels": ["high", "low"]})
    model = MultiTaskModel(encoder, {"pitch": family}, {}, seed=0).train()
    examples = []
    for place in range(6):
        cell = look("audio", "file", f"{place}.wav", Path(sounds))
        row = {"file": cell, "label": ("low", "high")[place % 2]}
        texts = family.texts(row)
        examples.append(example(family, row, texts, encoder.reader(texts)))
    sgd = Optimizer(name="sgd", lr=0.1, warmup=0.0, schedule="constant")
    made = groups(model.named(), {None: sgd, "pitch": sgd})
    engine: Engine
    if stage is None:
        engine = PlainEngine(model, made, 1.0, ranks)
    else:
        join(torch.device("cpu"))
        engine = DeepSpeedEngine(model, made, 1.0, stage)
    own = {"pitch": examples[rank * 3 :][:3] if ranks > 1 else examples}
    for step in range(2):
        engine.optimizer.set_rates(step, 2)
        batch = collate(own, model.families, "first", signals=encoder.signals)
        joint_step(engine, [batch], {"pitch": 1 / 6}, ranks, [0])
    found = {name: value.clone() for name, value in engine.weights()}
    if isinstance(engine, DeepSpeedEngine):
        engine.close()
    return found


@pytest.mark.parametrize("stage", [2, 3])
def test_ranks_with_sounds_of_other_lengths_reach_the_weights_of_one_rank(
    alone: Workers, pair: Workers, folders: dict[str, Path], tmp_path: Path, stage: int
) -> None:
    lengths = (0.1, 0.1, 0.1, 0.15, 0.12, 0.2)
    media(tmp_path, *(drawn.tone(n, ("low", "high")[n % 2], s) for n, s in enumerate(lengths)))
    expected = alone.run(stepped, None, str(folders["wav2vec2"]), str(tmp_path))[0]
    for found in pair.run(stepped, stage, str(folders["wav2vec2"]), str(tmp_path)):
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


def test_a_sound_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "none.wav").write_text("RIFF of nothing")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), drawn.RATE)
    broken = np.array([0.1, np.nan, 0.2])
    soundfile.write(tmp_path / "broken.wav", broken, drawn.RATE, subtype="FLOAT")
    for name in ("none.wav", "empty.wav", "absent.wav", "broken.wav"):
        found = look("audio", "file", name, tmp_path)
        assert not isinstance(found, dict)
        assert found.expected.startswith("a sound")

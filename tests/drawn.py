"""Pictures that are drawn, tones that are played, and small random encoders that read them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import transformers
from PIL import Image, ImageDraw

from encoders.network import quiet
from orchestrator import loop
from orchestrator.engine import PlainEngine
from orchestrator.evaluate import Ranks
from orchestrator.experiment import parse
from orchestrator.prepare import prepare
from orchestrator.training import Work

SIDE = 32
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": SIDE,
    "patch_size": 8,
}
IMAGES: dict[str, Callable[[], Any]] = {
    "vit": lambda: transformers.ViTConfig(**SMALL),
    "dinov2": lambda: transformers.Dinov2Config(**SMALL),
    "siglip": lambda: transformers.SiglipVisionConfig(**SMALL),
    "swin": lambda: transformers.SwinConfig(
        image_size=SIDE, patch_size=2, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4
    ),
    "convnext": lambda: transformers.ConvNextConfig(
        image_size=SIDE, depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 24, 32]
    ),
}


def image_encoder(kind: str, folder: Path) -> Path:
    """Save a small random network of a kind, with the processor that ViT has."""
    processor = transformers.ViTImageProcessor(size={"height": SIDE, "width": SIDE})
    return _saved(IMAGES[kind](), processor, folder)


SPEECH: dict[str, Any] = {
    "vocab_size": 8,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": [16, 16, 16],
    "conv_kernel": [10, 8, 4],
    "conv_stride": [10, 4, 2],
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}
SOUNDS: dict[str, Callable[[], Any]] = {
    "wav2vec2": lambda: transformers.Wav2Vec2Config(**SPEECH, feat_extract_norm="group"),
    "stable": lambda: transformers.Wav2Vec2Config(
        **SPEECH, feat_extract_norm="layer", do_stable_layer_norm=True
    ),
    "hubert": lambda: transformers.HubertConfig(**SPEECH, feat_extract_norm="group"),
    "whisper": lambda: transformers.WhisperConfig(
        vocab_size=20,
        d_model=32,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_source_positions=50,
        max_target_positions=8,
        num_mel_bins=20,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=3,
    ),
}
RATE = 16000


def sound_encoder(kind: str, folder: Path) -> Path:
    """Save a small random network of a kind, with a feature extractor for 16 kHz."""
    processor = (
        transformers.WhisperFeatureExtractor(feature_size=20, sampling_rate=RATE, chunk_length=1)
        if kind == "whisper"
        else transformers.Wav2Vec2FeatureExtractor(sampling_rate=RATE, do_normalize=True)
    )
    return _saved(SOUNDS[kind](), processor, folder)


def tone(place: int, pitch: str, seconds: float = 0.2, rate: int = RATE) -> Any:
    """Play a low or a high tone, with noise of the place's own: ``[samples]``."""
    draws = np.random.default_rng(place)
    hertz = draws.uniform(200, 300) if pitch == "low" else draws.uniform(1200, 1500)
    times = np.arange(int(seconds * rate)) / rate
    return 0.5 * np.sin(2 * math.pi * hertz * times) + 0.02 * draws.normal(size=len(times))


def tones(folder: Path, rows: int = 60) -> Path:
    """Write a data set of tones at several rates and lengths, some in two channels."""
    (folder / "files").mkdir(parents=True)
    for first, split in ((0, "train"), (rows, "validation"), (2 * rows, "test")):
        lines = ["file,pitch"]
        for place in range(first, first + (rows if split == "train" else rows // 3)):
            pitch, rate = ("low", "high")[place % 2], (RATE, 2 * RATE, 22050)[place % 3]
            found = tone(place, pitch, 0.1 + 0.02 * (place % 7), rate)
            path = f"files/{place}.{('wav', 'flac')[place % 2]}"
            channels = np.stack([found, found], 1) if place % 5 == 0 else found
            soundfile.write(folder / path, channels, rate)
            lines.append(f"{path},{pitch}")
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return folder


def _saved(config: Any, processor: Any, folder: Path) -> Path:
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(3)
        transformers.AutoModel.from_config(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def picture(place: int, stripes: str, shape: tuple[int, int] = (40, 30)) -> Image.Image:
    """Draw stripes that lie or stand, in colours of the place's own."""
    draws = np.random.default_rng(place)
    back, front = (tuple(int(c) for c in draws.integers(0, 256, 3)) for _ in range(2))
    drawn = Image.new("RGB", shape, back)
    pen, width = ImageDraw.Draw(drawn), int(draws.integers(3, 6))
    for at in range(int(draws.integers(0, 6)), max(shape), 2 * width):
        ends = (at, 0, at, shape[1]) if stripes == "standing" else (0, at, shape[0], at)
        pen.line(ends, front, width)
    return drawn


def pictures(folder: Path, rows: int = 120) -> Path:
    """Write a data set of pictures, of which each split holds some in every format."""
    (folder / "files").mkdir(parents=True)
    for first, split in ((0, "train"), (rows, "validation"), (2 * rows, "test")):
        lines = []
        for place in range(first, first + (rows if split == "train" else rows // 3)):
            stripes = ("lying", "standing")[place % 2]
            path = f"files/{place}.{('png', 'jpg')[place % 3 == 0]}"
            picture(place, stripes).save(folder / path)
            lines.append(json.dumps({"image": path, "stripes": stripes, "share": place % 2}))
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def work(folder: Path, network: Path, tasks: dict[str, Any], **changes: Any) -> Work:
    """Prepare a run of some tasks in one process."""
    tree = {
        "name": "drawn",
        "encoder": {"model": str(network)},
        "tasks": tasks,
        "regularization": {"dropout": 0, "attention_dropout": 0, "head_dropout": 0},
        "optimizer": {"lr": 2e-3},
        "scaling": {"workers": 1},
        **changes,
    }
    experiment = parse(tree)
    run = folder / "run"
    run.mkdir(parents=True)
    prepared = prepare(experiment, [], folder / "cache", processes=1)
    prepared.write(run)
    (run / "experiment.yaml").write_text(experiment.yaml())
    return Work(
        run=run,
        experiment=experiment,
        prepared=prepared,
        fingerprint="f" * 64,
        world=Ranks(),
        device=torch.device("cpu"),
        make_engine=lambda model, groups: PlainEngine(model, groups, 1.0),
        stop=lambda: False,
    )


def trained(own: Work) -> dict[str, float]:
    """Train a run to its end: the last scores on validation."""
    found: dict[str, float] = {}
    for news in loop.train(own):
        found |= {key: value for key, value in news.values.items() if "/validation/" in key}
    return found

"""Pictures: read one by one whatever the network, learnt from files or bytes, answered by path."""

from __future__ import annotations

import base64
from pathlib import Path

import drawn
import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from mlflow.exceptions import MlflowException
from PIL import Image

import encoders
from encoders import Lora
from encoders.images import ImageEncoder, ImageReader, colours
from orchestrator import export
from orchestrator.batch import collate
from orchestrator.check import check
from orchestrator.checkpoint import Progress
from orchestrator.predict import Predictor
from orchestrator.served import Served
from orchestrator.training import Training
from tasks.media import Media
from tasks.opened import look

TOKENS = {"vit": 17, "dinov2": 17, "siglip": 17, "swin": 65, "convnext": 2}
"""Of a picture: 16 patches and a class token or, without one, their mean."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: drawn.image_encoder(kind, tmp_path_factory.mktemp(kind)) for kind in TOKENS}


@pytest.fixture
def encoder(request: pytest.FixtureRequest, folders: dict[str, Path]) -> ImageEncoder:
    loaded = encoders.load(str(folders[request.param]), folder=folders[request.param]).eval()
    assert isinstance(loaded, ImageEncoder)
    return loaded


def every(*kinds: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("encoder", kinds or tuple(TOKENS), indirect=True)


def media(folder: Path, *pictures: Image.Image) -> list[Media]:
    found = []
    for place, picture in enumerate(pictures):
        picture.save(folder / f"{place}.png")
        cell = look("image", "image", f"{place}.png", folder)
        assert isinstance(cell, dict)
        found.append(Media(cell))
    return found


SHAPES = ((40, 30), (20, 50), (32, 32))


@every()
def test_states_are_those_of_each_picture_alone_in_plain_transformers(
    encoder: ImageEncoder, folders: dict[str, Path], tmp_path: Path
) -> None:
    drawings = [drawn.picture(place, "lying", shape) for place, shape in enumerate(SHAPES)]
    given = media(tmp_path, *drawings)
    lengths = [len(one) for one in encoder.reader(given)]
    (kind,) = (kind for kind in folders if str(folders[kind]) == encoder.network.name_or_path)
    assert lengths == [TOKENS[kind]] * 3
    found = encoder(*encoder.signals(given, lengths), torch.tensor([0, *lengths]).cumsum(0))
    assert found.shape == (sum(lengths), encoder.width)
    plain = transformers.AutoModel.from_pretrained(folders[kind]).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folders[kind])
    for drawing, states in zip(drawings, found.split(lengths), strict=True):
        hidden = plain(**processor(drawing, return_tensors="pt")).last_hidden_state
        expected = hidden[0] if hidden.ndim == 3 else hidden[0].flatten(1).T
        if kind in ("swin", "siglip", "convnext"):
            expected = torch.cat([expected.mean(0, keepdim=True), expected])
        torch.testing.assert_close(states, expected, rtol=1e-4, atol=1e-5)


@every()
def test_all_that_learns_gets_a_gradient(encoder: ImageEncoder, tmp_path: Path) -> None:
    given = media(tmp_path, drawn.picture(0, "lying"))
    lengths = [len(one) for one in encoder.reader(given)]
    offsets = torch.tensor([0, *lengths])
    encoder(*encoder.signals(given, lengths), offsets).square().sum().backward()
    for name, weight in encoder.named_parameters():
        assert weight.requires_grad == (weight.grad is not None), name
    assert sum(weight.requires_grad for weight in encoder.parameters()) > 10


@every("vit", "siglip")
def test_a_saved_encoder_is_a_plain_folder(encoder: ImageEncoder, tmp_path: Path) -> None:
    encoder.save(tmp_path)
    again = encoders.load(str(tmp_path))
    assert again.digest() == encoder.digest()
    assert again.reader.digest() == encoder.reader.digest()
    plain = transformers.AutoModel.from_pretrained(tmp_path)
    assert plain.num_parameters() >= encoder.network.num_parameters()
    assert transformers.AutoImageProcessor.from_pretrained(tmp_path).size["height"] == drawn.SIDE


def test_a_picture_that_changed_is_not_read(folders: dict[str, Path], tmp_path: Path) -> None:
    encoder = encoders.load(str(folders["vit"]))
    given = media(tmp_path, drawn.picture(0, "lying"))
    drawn.picture(1, "lying").save(tmp_path / "0.png")
    with pytest.raises(ValueError, match=r"0\.png is not the file that it was"):
        encoder.signals(given, [17])


def test_networks_that_mix_pictures_and_processors_that_keep_sizes_are_refused(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path / "resnet")
    transformers.ViTImageProcessor().save_pretrained(tmp_path / "resnet")
    with pytest.raises(ValueError, match="batch normalisation"):
        encoders.load(str(tmp_path / "resnet"))
    encoders.load(str(folders["vit"])).save(tmp_path / "keeps")
    transformers.ViTImageProcessor(do_resize=False).save_pretrained(tmp_path / "keeps")
    with pytest.raises(ValueError, match="pictures of different shapes"):
        encoders.reader(str(tmp_path / "keeps"), reads="image")
    with pytest.raises(ValueError, match="'vit', which reads image; the tasks' data hold audio"):
        encoders.reader(str(folders["vit"]), reads="audio")


@pytest.mark.parametrize("adapted", [False, True])
def test_stripes_are_learnt_answered_by_path_or_bytes_and_exported(
    folders: dict[str, Path], tmp_path: Path, adapted: bool
) -> None:
    data = str(drawn.pictures(tmp_path / "data"))
    tasks = {
        "stripes": {
            "family": "classify",
            "data": {"path": data, "image": "image", "label": "stripes"},
        },
        "share": {"family": "regress", "data": {"path": data, "image": "image", "target": "share"}},
    }
    lora = {"model": str(folders["vit"]), "lora": {"rank": 8}}
    changes = {"encoder": lora, "optimizer": {"lr": 1e-2}} if adapted else {}
    own = drawn.work(
        tmp_path,
        folders["vit"],
        tasks,
        batch={"tokens": 24 * 17, "micro_tokens": 12 * 17},
        train={"steps": 60, "evaluate_every": 60, "precision": "fp32"},
        **changes,
    )
    scores = drawn.trained(own)
    # Adapters learn less on a network whose other weights were drawn at random.
    assert scores["stripes/validation/accuracy"] > (0.7 if adapted else 0.9)
    assert scores["share/validation/pearson"] > (0.4 if adapted else 0.7)
    path = tmp_path / "new.png"
    drawn.picture(1000, "standing").save(path)
    uri = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    one, other = Predictor.load(own.run)([{"image": str(path)}, {"image": uri}])
    assert one["stripes"]["label"] == "standing"
    assert one["share"] == pytest.approx(other["share"])
    assert one["stripes"]["probabilities"] == pytest.approx(other["stripes"]["probabilities"])
    (nothing,) = Predictor.load(own.run)([{"image": " "}])
    assert nothing == {"stripes": None, "share": None}
    model = Served()
    model.predictor = Predictor.load(own.run)
    assert model.predict(None, pd.DataFrame({"image": [uri, uri]})) == [one, other]
    for named in (str(path), {"path": str(path)}, f"file://{path}"):
        with pytest.raises(MlflowException, match="A server opens no paths"):
            model.predict(None, pd.DataFrame({"image": [uri, named]}))
    for done in export.export(own.run, tmp_path / "out"):
        assert not done.plain
        assert "`ViTModel` and `AutoImageProcessor`" in (done.folder / "README.md").read_text()


def test_a_micro_batch_holds_as_many_pictures_as_its_tokens_allow(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    data = str(drawn.pictures(tmp_path / "data", rows=12))
    task = {"family": "classify", "data": {"path": data, "image": "image", "label": "stripes"}}
    own = drawn.work(
        tmp_path,
        folders["vit"],
        {"stripes": task},
        batch={"tokens": 6 * 17, "micro_tokens": 2 * 17},
        train={"steps": 2, "precision": "fp32"},
    )
    training = Training(own, own.stages[0], Progress(0))
    batches, part = training.dealer.deal(0, training.engine.model)
    assert [len(batch.signals[0]) for batch in batches] == [2, 2, 2]
    assert part.tokens == 6 * 17
    twice = collate(
        {"stripes": [training.dealer.rows["stripes"].example(0)]},
        training.families,
        "first",
        twice={"stripes": 1.0},
        signals=training.engine.model.encoder.signals,
    )
    assert torch.equal(*twice.signals[0])
    report = check(own.experiment, own.prepared)
    assert report.parts[0].rows == 12
    assert 0.5 < report.losses["stripes"] < 2


def test_a_resting_encoder_opens_each_picture_once(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    read = ImageReader.read

    def counted(self: ImageReader, pictures: list[Media], lengths: list[int]) -> object:
        opened.extend(pictures)
        return read(self, pictures, lengths)

    monkeypatch.setattr(ImageReader, "read", counted)
    data = str(drawn.pictures(tmp_path / "data", rows=12))
    task = {"family": "classify", "data": {"path": data, "image": "image", "label": "stripes"}}
    own = drawn.work(
        tmp_path,
        folders["vit"],
        {"stripes": task},
        stages=[{"name": "heads", "train": ["heads"]}],
        batch={"tokens": 6 * 17, "micro_tokens": 2 * 17},
        train={"steps": 6, "evaluate_every": 3, "precision": "fp32"},
    )
    assert drawn.trained(own)
    assert len(opened) == len(set(opened)) == 12 + 4


def test_adapters_of_weights_that_no_state_depends_on_rest_too(folders: dict[str, Path]) -> None:
    encoder = encoders.load(str(folders["siglip"]), lora=Lora(2, 4.0))
    learning = {name for name, weight in encoder.named_parameters() if weight.requires_grad}
    assert learning
    assert not any(".head." in name for name in learning)


def test_sixteen_bits_of_grey_keep_their_range_and_pictures_are_upright(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    found = np.asarray(colours(Image.open(tmp_path / "deep.png")))[..., 0].reshape(-1)
    assert np.abs(found.astype(int) - np.linspace(0, 255, 64)).max() <= 1
    turned = Image.new("RGB", (4, 2), "red")
    turned.getexif()[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=turned.getexif())
    assert colours(Image.open(tmp_path / "turned.jpg")).size == (2, 4)


def test_what_is_no_picture_is_told_in_words(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "decimals.tiff")
    (tmp_path / "none.png").write_text("no picture")
    for name, expected in (("decimals.tiff", "decimals"), ("none.png", "cannot identify")):
        found = look("image", "image", name, tmp_path)
        assert not isinstance(found, dict)
        assert expected in found.expected
        assert "BytesIO" not in found.expected

import sys

import numpy as np
import pytest

from jaxcolor.detection.detector import Detector, DetectorError, DetectorSpec

NAME = "maskrcnn_resnet50_fpn"


def needs_torchvision():
    """torchvision, skipping without; where its compiled part is missing (no CUDA libraries), with ``nms`` in NumPy."""
    torch = pytest.importorskip("torch", reason="Mask R-CNN needs PyTorch: pip install 'jaxcolor[detect]'")
    try:
        import torchvision
    except ImportError:
        pytest.skip("Mask R-CNN needs torchvision: pip install 'jaxcolor[detect]'")
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        import torchvision

        from jaxcolor.detection.model_file import nms

        def suppress(boxes, scores, most):
            classes = np.zeros(len(scores), np.int64)
            return torch.from_numpy(nms(boxes.numpy().astype(np.float64), scores.numpy(), classes, most))

        library.impl("nms", suppress, "CPU")
        torchvision.ops.boxes._assert_has_ops = lambda: None
        # Its fallback in Python would be compiled at first use, with warnings.
        torchvision.ops.roi_align.__globals__["_roi_align"] = torchvision.ops.roi_align.__globals__[
            "_roi_align"
        ].__wrapped__
        torchvision.kept_library = library
    return torch


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of random weights."""
    torch = needs_torchvision()
    from torchvision.models import detection

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    model = getattr(detection, NAME)(weights=None, weights_backbone=None)
    torch.save(model.state_dict(), path)
    yield path
    path.unlink()


@pytest.fixture
def small(weights):
    """Photos are not scaled up to 800 pixels, and few proposals are looked at."""
    detector = DetectorSpec(NAME, weights=str(weights), threads=2).open()
    detector._model.transform.min_size = (64,)
    detector._model.rpn._pre_nms_top_n = detector._model.rpn._post_nms_top_n = {"training": 10, "testing": 10}
    return detector


def test_boxes_of_photos_of_all_sizes(small):
    assert isinstance(small, Detector)
    assert small.threshold == 0.7
    assert small.name.startswith("torchvision maskrcnn_resnet50_fpn, random.pth (SHA-256 ")
    rng = np.random.default_rng(0)
    photos = [np.repeat(rng.integers(0, 256, (*size, 1), np.uint8), 3, -1) for size in ((64, 48), (50, 90), (64, 48))]
    found = small.detect(photos, 0.0)
    assert [len(boxes.boxes) for boxes in found] == [100, 100, 100]  # Mask R-CNN's own limit
    for photo, (boxes, scores) in zip(photos, found, strict=True):
        assert boxes.dtype == scores.dtype == np.float32
        assert boxes.shape == (len(scores), 4)
        height, width = photo.shape[:2]
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] <= [width, height]).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert (np.diff(scores) <= 0).all()
    middle = float(np.median(found[0].scores))
    (fewer,) = small.detect(photos[:1], middle)
    assert 0 < len(fewer.scores) < 100
    assert fewer.scores.min() > middle
    assert small.detect(photos[:1], 0.99)[0].boxes.shape == (0, 4)


def test_weights_that_cannot_be_used(weights, tmp_path):
    torch = needs_torchvision()
    for name, content, message in (
        ("gone.pth", None, r"gone\.pth: cannot read this file: No such file"),
        ("text.pth", b"no weights", r"text\.pth: cannot be read as PyTorch weights"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(DetectorError, match=message) as caught:
            DetectorSpec(NAME, weights=str(tmp_path / name)).open()
        assert "\n" not in str(caught.value)
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(DetectorError, match=r"other\.pth: not the weights of this model: .*Missing key"):
        DetectorSpec(NAME, weights=str(tmp_path / "other.pth")).open()
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(DetectorError, match=r"list\.pth: not the weights of this model"):
        DetectorSpec(NAME, weights=str(tmp_path / "list.pth")).open()
    if not torch.cuda.is_available():
        with pytest.raises(DetectorError, match="this PyTorch sees no CUDA device"):
            DetectorSpec(NAME, weights=str(weights), device="cuda").open()


def test_weights_that_cannot_be_had(monkeypatch, tmp_path):
    torch = needs_torchvision()

    def unreachable(*arguments, **options):
        raise OSError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # nothing downloaded before is there
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(
        DetectorError, match=r"cannot get its weights \(no route to host\); download https://.*\.pth else"
    ):
        DetectorSpec(NAME).open()


def test_without_torchvision(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(DetectorError, match=r"needs torch and the torchvision made for it .*'jaxcolor\[detect\]'"):
        DetectorSpec(NAME).open()

import json

import numpy as np
import pytest

from jaxcolor.cli import main
from jaxcolor.data.boxes.packed import PackedStore


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "boxes").mkdir()
    for stem, count in (("a", 2), ("b", 0)):
        boxes, scores = np.ones((count, 4), np.float32), np.full(count, 0.75, np.float32)
        np.savez(tmp_path / "boxes" / f"{stem}.npz", bbox=boxes, scores=scores)
    return tmp_path / "boxes"


def test_pack_and_verify(folder, tmp_path, capsys):
    store = tmp_path / "store"
    arguments = ["boxes", "pack", str(folder), "-o", str(store), "--detector", "mask-rcnn", "--threshold", "0.7"]
    assert main(arguments) == 0
    told = "2 boxes of 2 photos, from boxes (npz); found by mask-rcnn, scores of at least 0.7"
    assert capsys.readouterr().out == f"wrote {store}: {told}\n"
    assert main(["boxes", "verify", str(store)]) == 0
    assert capsys.readouterr().out == f"{store}: as it was packed: {told}\n"

    assert main(arguments) == 1
    assert capsys.readouterr().err == f"jaxcolor boxes: {store}: exists; give --force to replace it\n"
    assert main([*arguments, "--force"]) == 0
    assert main(["boxes", "pack", str(folder), "-o", str(folder), "--force"]) == 1
    assert "is no packed box store: not replaced" in capsys.readouterr().err


def test_pack_detections_with_images(tmp_path):
    (tmp_path / "found.json").write_text(json.dumps([{"image_id": 1, "bbox": [0, 0, 2, 2], "score": 1}]))
    images = [{"id": 1, "file_name": "one.jpg"}, {"id": 2, "file_name": "two.jpg"}]
    (tmp_path / "info.json").write_text(json.dumps({"images": images}))
    pack = ["boxes", "pack", str(tmp_path / "found.json"), "--kind", "coco_detections"]
    assert main([*pack, "-o", str(tmp_path / "s"), "--images", str(tmp_path / "info.json")]) == 0
    assert list(PackedStore(tmp_path / "s").keys()) == ["one", "two"]
    assert main([*pack, "-o", str(tmp_path / "t")]) == 0
    assert list(PackedStore(tmp_path / "t").keys()) == ["000000000001"]


def test_what_goes_wrong_is_one_line(folder, tmp_path, capsys):
    assert main(["boxes", "pack", str(folder), "-o", str(tmp_path / "s"), "--threshold", "0.9"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("jaxcolor boxes: photo a: has a box of score 0.75")
    assert main(["boxes", "verify", str(folder)]) == 1
    assert "manifest.json: cannot read this manifest: No such file" in capsys.readouterr().err
    for arguments in (["boxes"], ["boxes", "pack", str(folder)], ["boxes", "pack", str(folder), "--kind", "packed"]):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2

"""A prepared data set from elsewhere cannot have code of its choice imported."""

import json
import sys

import pytest

from jaxcolor.config import DataConfig
from jaxcolor.data.sources.registry import open_source
from jaxcolor.data.types import DataError

MODULE = "made_up_feature_module"
NAMED = f"{MODULE}.Feature"
TFDS = "tensorflow_datasets.core.features.features_dict.FeaturesDict"
CASES = {
    "root": {"pythonClassName": NAMED, "jsonFeature": {"json": "{}"}},
    "field as protobuf has it": {"python_class_name": NAMED, "jsonFeature": {"json": "{}"}},
    "old form": {"type": NAMED, "content": {}},
    "nested": {"pythonClassName": TFDS, "featuresDict": {"features": {"a": {"pythonClassName": NAMED}}}},
    "old form nested": {"type": TFDS, "content": {"a": {"type": NAMED, "content": {}}}},
    "in JSON kept as a text": {
        "pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
        "jsonFeature": {"json": json.dumps({"a": {"type": NAMED, "content": {}}})},
    },
    "alike": {"pythonClassName": f"tensorflow_datasets_{NAMED}", "jsonFeature": {"json": "{}"}},
}


@pytest.mark.parametrize("features", CASES.values(), ids=CASES.keys())
def test_classes_of_others_are_refused_before_they_are_imported(features, tmp_path, monkeypatch):
    library, canary = tmp_path / "lib", tmp_path / "canary"
    library.mkdir()
    for module in (MODULE, f"tensorflow_datasets_{MODULE}"):
        (library / f"{module}.py").write_text(f"open({str(canary)!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(library)
    folder = tmp_path / "made_up" / "1.0.0"
    folder.mkdir(parents=True)
    info = {"name": "made_up", "version": "1.0.0", "fileFormat": "array_record", "splits": []}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    (folder / "features.json").write_text(json.dumps(features))
    with pytest.raises(DataError, match=r"features\.json: names the class '.*only names below tensorflow_datasets\. "):
        open_source(DataConfig(source="tfds", path=str(folder)))
    assert not canary.exists()
    assert MODULE not in sys.modules

"""The classifier whose features images are compared in, and which network is taken."""

import dataclasses

import numpy as np
import pytest

from gan.data import DATASETS
from gan.data.dataset import Dataset, Examples
from gan.errors import UsageError
from gan.models import inception_weights
from gan.trainers import features
from gan.trainers.features import FEATURES, data_digest


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GAN_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(features, "_STEPS", 200)


def digits():
    return DATASETS.build("digits")


def test_the_classifier_reads_digits_that_it_has_not_seen(cache):
    extractor = FEATURES.build("classifier").extractor(digits())
    examples, labels = digits().load()
    seen = extractor.see(examples[:500])
    assert seen.vectors.shape == (500, 128)
    assert np.mean(np.asarray(seen.logits).argmax(1) == labels[:500]) > 0.98
    share = float(extractor.note.split()[1].rstrip("%")) / 100
    assert share > 0.97


def test_it_is_trained_once_and_again_for_other_data(cache, short, monkeypatch):
    first = FEATURES.build("classifier").extractor(digits())
    with monkeypatch.context() as patch:
        patch.setattr(features, "_train", lambda *args: pytest.fail("trained again"))
        again = FEATURES.build("classifier").extractor(digits())
        assert again.digest == first.digest
        images = digits().load().examples[:3]
        np.testing.assert_array_equal(again.see(images).vectors, first.see(images).vectors)
        examples, labels = digits().load()
        changed = Examples(
            np.where(np.arange(1_797)[:, None, None, None] == 9, 7, examples), labels
        )
        with pytest.raises(pytest.fail.Exception, match="trained again"):
            FEATURES.build("classifier").extractor(
                dataclasses.replace(digits(), load=lambda: changed)
            )


def test_a_spoilt_cache_is_made_anew(cache, short):
    first = FEATURES.build("classifier").extractor(digits())
    (path,) = (cache / "classifiers").glob("*.npz")
    path.write_bytes(path.read_bytes()[:1_000])
    again = FEATURES.build("classifier").extractor(digits())
    assert again.digest == first.digest


def test_without_classes_there_is_nothing_to_learn(cache):
    photos = Dataset("photos", (8, 8, 3), 1, lambda: pytest.fail("read"))
    with pytest.raises(UsageError, match="photos has no classes to learn; 'inception' needs none"):
        FEATURES.build("classifier").extractor(photos)


def test_auto_takes_inception_only_where_its_weights_are_at_hand(cache, short, monkeypatch):
    class ChosenError(Exception):
        pass

    def chosen(*args):
        raise ChosenError

    monkeypatch.setattr(features.InceptionFeatures, "extractor", chosen)
    examples = Examples(np.zeros([100, 8, 8, 3], np.uint8), np.arange(100, dtype=np.int32) % 2)
    colour = Dataset("colour", (8, 8, 3), 2, lambda: examples)
    assert FEATURES.build("auto").extractor(colour).name == "classifier"
    (cache / "inception").mkdir()
    (cache / "inception" / ".part.abandoned").mkdir()
    assert FEATURES.build("auto").extractor(colour).name == "classifier"
    (cache / "inception" / inception_weights.PUBLISHED.replace(".pth", ".npz")).touch()
    assert FEATURES.build("auto").extractor(digits()).name == "classifier"
    with pytest.raises(ChosenError):
        FEATURES.build("auto").extractor(colour)


def test_the_digest_is_of_every_value(cache):
    examples, labels = digits().load()
    one, other = examples.copy(), labels.copy()
    one[-1, -1, -1] ^= 1
    other[-1] += 1
    digests = {data_digest(Examples(x, y)) for x in (examples, one) for y in (labels, other)}
    assert len(digests) == 4

"""The classifier whose features images are compared in, and which network is taken."""

import dataclasses

import jax
import numpy as np
import pytest

from gan.data import DATASETS
from gan.data.dataset import Dataset, Examples
from gan.data.description import data_digest
from gan.errors import UsageError
from gan.metrics import Need
from gan.models import inception_weights
from gan.trainers.evaluation import features
from gan.trainers.evaluation.classifier_training import ClassifierTraining
from gan.trainers.evaluation.features import FEATURES


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GAN_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(features, "CLASSIFIER_TRAINING", ClassifierTraining(num_steps=200))


def digits():
    return DATASETS.build("digits")


def test_the_classifier_reads_digits_that_it_has_not_seen(cache):
    extractor = FEATURES.build("classifier").extractor(digits())
    examples, labels = digits().load()
    output = extractor.extract(examples[:500])
    assert output.vectors.shape == (500, 128)
    assert np.mean(np.asarray(output.logits).argmax(1) == labels[:500]) > 0.98
    _, accuracy = features._trained_classifier(digits())
    assert accuracy > 0.97


def test_it_is_trained_once_and_again_for_other_data(cache, short, monkeypatch):
    first = FEATURES.build("classifier").extractor(digits())
    with monkeypatch.context() as patch:
        patch.setattr(ClassifierTraining, "run", lambda *args: pytest.fail("trained again"))
        again = FEATURES.build("classifier").extractor(digits())
        assert again.digest == first.digest
        images = digits().load().examples[:3]
        np.testing.assert_array_equal(again.extract(images).vectors, first.extract(images).vectors)
        examples, labels = digits().load()
        changed = Examples(
            np.where(np.arange(1_797)[:, None, None, None] == 9, 7, examples), labels
        )
        with pytest.raises(pytest.fail.Exception, match="trained again"):
            FEATURES.build("classifier").extractor(
                dataclasses.replace(digits(), load=lambda: changed)
            )


def test_a_damaged_cache_is_made_anew(cache, short):
    first = FEATURES.build("classifier").extractor(digits())
    (path,) = (cache / "classifiers").glob("*.npz")
    path.write_bytes(path.read_bytes()[:1_000])
    again = FEATURES.build("classifier").extractor(digits())
    assert again.digest == first.digest


def test_the_classifiers_name_in_the_cache_tells_how_it_was_trained():
    """A change of any setting, of the data, or of the number of classes is another classifier."""
    training = ClassifierTraining()
    keys = {training.cache_key("data", 10), training.cache_key("other data", 10)}
    keys.add(training.cache_key("data", 11))
    fields = dataclasses.fields(ClassifierTraining)
    for field in fields:
        value = getattr(training, field.name)
        changed = {field.name: value + "2" if isinstance(value, str) else 2 * value + 1}
        keys.add(dataclasses.replace(training, **changed).cache_key("data", 10))
    assert len(keys) == 3 + len(fields)


@pytest.mark.parametrize(
    "changed",
    [
        {"num_steps": 4},
        {"batch_size": 8},
        {"optimizer": "adam(cosine_decay_schedule(1e-3, 2_500))"},
        {"holdout_divisor": 2},
        {"max_images": 90},
        {"max_bytes": 64 * 90},
        {"seed": 1},
        {"width": 4},
        {"num_features": 4},
    ],
)
def test_each_setting_changes_the_weights(changed):
    """So that none of them is in the cache's name only."""
    digits_100 = Examples(*(array[:100] for array in digits().load()))
    training = ClassifierTraining(num_steps=3, batch_size=16, width=2, num_features=8)
    first, _ = training.run(digits_100, 10)
    other, _ = dataclasses.replace(training, **changed).run(digits_100, 10)
    leaves, other_leaves = jax.tree.leaves(first), jax.tree.leaves(other)
    assert any(
        x.shape != y.shape or (x != y).any() for x, y in zip(leaves, other_leaves, strict=True)
    )


def test_pixels_are_vectors_in_0_to_1_and_points_stay_as_they_are():
    images = np.arange(32, dtype=np.uint8).reshape(2, 4, 4, 1) * 8
    output = FEATURES.build("pixels").extractor(digits()).extract(images)
    np.testing.assert_array_equal(output.vectors, images.reshape(2, 16) / 255)
    assert output.logits.shape == (2, 0)
    points = np.random.default_rng(0).standard_normal([5, 2]).astype(np.float32)
    ring = DATASETS.build("gaussians")
    np.testing.assert_array_equal(
        FEATURES.build("pixels").extractor(ring).extract(points).vectors, points
    )
    assert FEATURES.build("pixels").provides(ring) == {Need.VECTORS}


@pytest.mark.parametrize("name", ["classifier", "inception('nowhere.npz')"])
def test_networks_of_images_refuse_points(name):
    words = "images are needed, and gaussians .* has points; 'pixels' takes both"
    with pytest.raises(UsageError, match=words):
        FEATURES.build(name).extractor(DATASETS.build("gaussians"))


def test_pixels_of_large_images_are_refused():
    large = Dataset("photos", (65, 64, 1), 1, lambda: pytest.fail("read"))
    with pytest.raises(UsageError, match="of up to 4096 values can be compared, one of photos has"):
        FEATURES.build("pixels").extractor(large)


def test_auto_needs_no_features_for_points_of_a_known_mixture():
    ring = DATASETS.build("gaussians")
    assert FEATURES.build("auto").provides(ring) == frozenset()
    assert FEATURES.build("auto").extractor(ring).name == "points"
    unknown = dataclasses.replace(ring, mixture=None)
    assert FEATURES.build("auto").extractor(unknown).name == "pixels"


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

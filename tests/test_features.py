"""The classifier whose features images are compared in, and which network is taken."""

import dataclasses
import tomllib

import jax
import numpy as np
import pytest

from gan.data import DATASETS
from gan.data.dataset import Dataset, Examples, data_digest
from gan.errors import UsageError
from gan.metrics import Need
from gan.models import inception_weights
from gan.trainers.evaluation import features, trained_classifier
from gan.trainers.evaluation.classifier_training import ClassifierTraining
from gan.trainers.evaluation.features import FEATURES
from gan.trainers.evaluation.scorer import Scorer
from gan.trainers.evaluation.trained_classifier import SHIPPED, TrainedClassifier


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GAN_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def short(monkeypatch):
    training = ClassifierTraining(max_steps=200)
    monkeypatch.setattr(trained_classifier, "CLASSIFIER_TRAINING", training)


def digits():
    return DATASETS.build("digits")


# SHA-256 of the data that the shipped classifiers are trained on, and the numbers of classes.
SHIPPED_FOR = {
    "digits": ("656c358c1bf54382aa0a9272b5efdc5709a9138cb6b22cb14b9034b7aee3c47f", 10),
    "mnist": ("be3141a91b0d607ce5d026af55577be8379ae78a492398c4e5ae054ced46529d", 10),
}


def test_the_shipped_classifiers_are_those_of_todays_training(root):
    """If this fails, make them anew: see the head of trained_classifier.py."""
    assert data_digest(digits().load()) == SHIPPED_FOR["digits"][0]
    keys = {name: ClassifierTraining().cache_key(*data) for name, data in SHIPPED_FOR.items()}
    files = {path.name for path in SHIPPED.iterdir()}
    assert files == {f"{name}-{key}.npz" for name, key in keys.items()}
    tool = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    (pattern,) = tool["package-data"]["gan.trainers.evaluation"]
    assert {path.name for path in SHIPPED.parent.glob(pattern)} == files
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 1e6


def test_the_shipped_classifier_reads_held_out_digits_as_well_as_it_says(cache, monkeypatch):
    monkeypatch.setattr(ClassifierTraining, "run", lambda *args: pytest.fail("trained"))
    extractor = FEATURES.build("classifier").extractor(digits())
    examples, labels = digits().load()
    held_out = np.random.default_rng(0).permutation(1_797)[:179]
    output = extractor.extract(examples[held_out])
    assert output.vectors.shape == (179, 128)
    accuracy = np.mean(np.asarray(output.logits).argmax(1) == labels[held_out])
    assert accuracy == pytest.approx(trained_classifier.trained_classifier(digits()).accuracy)
    assert accuracy > 0.98
    assert extractor.warnings == ()
    assert not (cache / "classifiers").exists()


def test_the_training_makes_a_classifier_like_the_shipped_one():
    params, accuracy = ClassifierTraining().run(digits().load(), 10)
    assert accuracy > 0.97
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float16)}
    classifier = trained_classifier.trained_classifier(digits())
    images = digits().load().examples / np.float32(127.5) - 1
    read = [
        np.asarray(classifier.network.apply({"params": own}, images).logits).argmax(1)
        for own in (jax.tree.map(np.float32, params), classifier.params)
    ]
    assert np.mean(read[0] == read[1]) > 0.98


def test_the_training_ends_after_so_many_epochs_or_when_an_epochs_loss_is_small():
    """There are 90 images to learn, and a look at the loss every 25 steps."""
    digits_100 = Examples(*(array[:100] for array in digits().load()))
    plain = ClassifierTraining(
        batch_size=2, width=2, num_features=8, optimizer="adam(1e-3)", done_loss=0
    )

    def run(**changed):
        return jax.tree.leaves(dataclasses.replace(plain, **changed).run(digits_100, 10))

    def same(one, other):
        return all(np.array_equal(x, y) for x, y in zip(one, other, strict=True))

    assert same(run(max_epochs=2), run(max_steps=90))
    assert same(run(max_epochs=3, done_loss=1e9), run(max_steps=50)), "45 steps are an epoch"
    assert not same(run(max_steps=50), run(max_steps=90))


def test_a_classifier_nearer_to_guessing_than_to_perfection_is_warned_of():
    def warnings(accuracy, guessed):
        return TrainedClassifier(None, None, accuracy, guessed).warnings

    assert warnings(0.55, 0.1) == warnings(0.98, 0.95) == ()
    (warning,) = warnings(0.31, 0.1)
    assert warning.startswith("the classifier recognises only 31% of held-out images (the largest")
    assert "is 10% of all" in warning
    assert len(warnings(0.549, 0.1)) == len(warnings(0.97, 0.95)) == 1


def test_scores_in_features_of_classes_that_cannot_be_told_apart_are_warned_of(cache, short):
    examples = digits().load().examples[:200]
    at_random = np.random.default_rng(0).integers(0, 2, 200).astype(np.int32)
    mixed = dataclasses.replace(digits(), num_classes=2, load=lambda: Examples(examples, at_random))
    scorer = Scorer(mixed, "mixed", FEATURES.build("classifier"), 200, None)
    (warning,) = scorer.warnings
    assert warning.startswith("the classifier recognises only ")
    assert warning in scorer.score([examples], {}).warnings


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
        {"max_steps": 4},
        {"max_epochs": 2},
        {"done_loss": 100.0},
        {"batch_size": 8},
        {"optimizer": "adam(cosine_decay_schedule(1e-3, {num_steps}))"},
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
    training = ClassifierTraining(max_steps=30, batch_size=16, width=2, num_features=8)
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

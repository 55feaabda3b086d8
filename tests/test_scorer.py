"""Scores with their protocol: what is compared, in one pass, and what is refused."""

import dataclasses
import json
import weakref
from unittest import mock

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

from gan.data import DATASETS
from gan.data.dataset import Dataset, Examples
from gan.errors import UsageError
from gan.metrics import METRICS, Metric, Need, Score, higher_is_better, summary
from gan.metrics.fid import frechet_distance
from gan.metrics.metric import deciding_scores
from gan.metrics.mode_coverage import mode_coverage
from gan.metrics.summary import Moments
from gan.models.classifier import FeatureOutput
from gan.trainers.evaluation import scorer as scorer_module
from gan.trainers.evaluation.features import FEATURES, FeatureExtractor, FeatureNetwork
from gan.trainers.evaluation.results import Result, read_results
from gan.trainers.evaluation.scorer import Scorer
from gan.trainers.evaluation.table import format_results


def extract(images):
    """Features that can be computed by hand: pixels; their first three are the logits."""
    flat = images.reshape(len(images), -1) / np.float32(255)
    return FeatureOutput(flat, flat[:, :3])


class FakeNetwork(FeatureNetwork):
    name = "fake"
    num_extracted = 0

    def extractor(self, dataset):
        def counted(images):
            FakeNetwork.num_extracted += len(images)
            return extract(images)

        return FeatureExtractor("fake", "d1", "none", counted)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GAN_CACHE_DIR", str(tmp_path / "cache"))


def images(seed, count):
    return np.random.default_rng(seed).integers(0, 256, [count, 4, 4, 1]).astype(np.uint8)


def dataset(count=300, seed=0):
    examples = Examples(images(seed, count), np.zeros(count, np.int32))
    return Dataset("noise", (4, 4, 1), 1, lambda: examples)


def scorer(count=200, metrics=None, **kwargs):
    return Scorer(dataset(**kwargs), "noise", FakeNetwork(), count, 0, metrics)


def batches(array, size=37):
    return (array[i : i + size] for i in range(0, len(array), size))


def test_the_fid_is_that_of_all_features_at_once(monkeypatch):
    monkeypatch.setattr(scorer_module, "_CHUNK_SIZE", 48)
    fake = images(1, 200)
    result = scorer().score(batches(fake), {"images": "here"})
    real = extract(images(0, 300)).vectors
    expected = frechet_distance(Moments.of(real), Moments.of(extract(fake).vectors))
    np.testing.assert_allclose(result.scores["fid"], expected, rtol=1e-9)
    logits = extract(fake).logits.astype(np.float64)
    scores = []
    for part in np.split(scipy.special.softmax(logits, axis=1), 10):
        scores.append(np.exp(scipy.special.rel_entr(part, part.mean(0)).sum(1).mean()))
    np.testing.assert_allclose(result.scores["inception_score"], np.mean(scores), rtol=1e-6)
    np.testing.assert_allclose(result.scores["inception_score_std"], np.std(scores), rtol=1e-4)


@given(sizes=st.lists(st.integers(1, 90), min_size=1, max_size=8))
def test_however_the_batches_come_the_network_sees_even_ones(sizes):
    array = np.arange(sum(sizes))
    parts = np.split(array, np.cumsum(sizes)[:-1])
    even = list(scorer_module._even_batches(iter(parts), 32))
    assert all(len(part) == 32 for part in even[:-1])
    np.testing.assert_array_equal(np.concatenate(even), array)


def test_the_same_images_are_at_no_distance():
    result = scorer(count=300).score(batches(images(0, 300)), {})
    assert abs(result.scores["fid"]) < 1e-9
    assert result.scores["precision"] == result.scores["recall"] == 1


def test_only_what_is_asked_for():
    """The KID of fewer images than a subset has no spread."""
    result = scorer(metrics=("kid",)).score(batches(images(1, 200)), {})
    assert set(result.scores) == {"kid"}


def test_features_of_real_images_are_extracted_once():
    FakeNetwork.num_extracted = 0
    first = scorer().score(batches(images(1, 200)), {})
    assert FakeNetwork.num_extracted == 300 + 200
    again = scorer().score(batches(images(1, 200)), {})
    assert FakeNetwork.num_extracted == 300 + 200 + 200
    assert again.scores == first.scores
    scorer(seed=3)  # other data
    assert FakeNetwork.num_extracted == 300 + 200 + 200 + 300


def test_what_differs_has_another_fingerprint():
    same = scorer().protocol
    assert same.fingerprint == scorer().protocol.fingerprint
    for field in dataclasses.fields(same):
        changed = dataclasses.replace(same, **{field.name: "other"})
        assert changed.fingerprint != same.fingerprint, field.name
    assert scorer(seed=1).protocol.fingerprint != same.fingerprint
    assert scorer(count=201).protocol.fingerprint != same.fingerprint


def test_few_images_are_warned_of(monkeypatch):
    monkeypatch.setattr(scorer_module, "_MIN_EXAMPLES", 10)
    result = scorer(count=16).score(batches(images(1, 16)), {})
    (warning,) = result.warnings
    assert warning.startswith("16 images are too few for a covariance of 16 features: it has not")
    assert scorer(count=17).score(batches(images(1, 17)), {}).warnings == []


def test_a_warning_of_the_features_is_one_of_every_result(monkeypatch):
    network = FakeNetwork()
    plain = network.extractor(None)
    warned = dataclasses.replace(plain, warnings=("they are blind",))
    monkeypatch.setattr(network, "extractor", lambda dataset: warned)
    own = Scorer(dataset(), "noise", network, 200, 0)
    assert own.warnings == ("they are blind",)
    for _ in range(2):
        assert own.score(batches(images(1, 200)), {}).warnings == ["they are blind"]
    assert scorer().warnings == ()


def test_few_real_images_are_refused():
    with pytest.raises(UsageError, match="noise: at least 20 real images are needed, there are 19"):
        Scorer(
            Dataset("noise", (4, 4, 1), 2, lambda: Examples(images(0, 19), np.arange(19) % 2)),
            "noise", FakeNetwork(), 200, 0,
        )  # fmt: skip


def test_a_result_that_cannot_be_written_is_warned_of(tmp_path, caplog):
    (tmp_path / "evaluations.jsonl").mkdir()
    scorer().score(batches(images(1, 200)), {}).write(tmp_path)
    assert "evaluations.jsonl cannot be written" in caplog.text


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros([200, 5, 4, 1], np.uint8), "images are uint8 5 x 4 x 1, and those of noise are"),
        (np.zeros([200, 4, 4, 3], np.uint8), "uint8 4 x 4 x 3"),
        (np.full([200, 4, 4, 1], np.nan), "images are float64 4 x 4 x 1"),
    ],
)
def test_other_images_are_refused(array, words):
    with pytest.raises(UsageError, match=words):
        scorer().score(batches(array), {})


def test_misuse():
    with pytest.raises(UsageError, match="unknown metric 'fld'; did you mean 'fid'"):
        scorer(metrics=("fld",))
    with pytest.raises(UsageError, match="at least 20 samples can be scored, given 5"):
        scorer(count=5)


@pytest.fixture
def brightness(monkeypatch):
    """A metric of one class, and nothing else."""
    monkeypatch.setattr(METRICS, "_makers", dict(METRICS._makers))

    @METRICS.register("brightness")
    class Brightness(Metric):
        needs = Need.VECTORS
        scores = (Score("brightness", higher_is_better=True, number_format=".1f"),)

        def compute(self, real, fake):
            return {"brightness": float(100 * (fake.moments.mean - real.moments.mean).mean())}

    return Brightness


def test_a_metric_is_one_class(brightness):
    """It is measured by default and by its name, has its column, and says which way is better."""
    white = np.full([200, 4, 4, 1], 255, np.uint8)
    result = scorer().score(batches(white), {"images": "white"})
    expected = 100 * (1 - extract(images(0, 300)).vectors.mean())
    assert result.scores["brightness"] == pytest.approx(expected)
    names = list(result.scores)
    assert (names[0], names[-1]) == ("fid", "brightness")
    alone = scorer(metrics=["brightness"]).score(batches(white), {"images": "white"})
    assert alone.scores == {"brightness": result.scores["brightness"]}
    head, row, *_ = format_results([alone], [alone]).splitlines()
    assert head.split() == ["images", "brightness"]
    assert row.split() == ["white", f"{expected:.1f}"]
    assert higher_is_better("brightness") is True


class OfItsClasses(FakeNetwork):
    def provides(self, dataset):
        return super().provides(dataset) | {Need.DATA_LOGITS}

    def extractor(self, dataset):
        def scaled(images):
            vectors, logits = extract(images)
            return FeatureOutput(vectors, 8 * logits)

        return FeatureExtractor("fake", "d2", "none", scaled)


def three_classes():
    return dataclasses.replace(dataset(), num_classes=3)


@pytest.mark.parametrize("size", [37, 200])
def test_samples_are_sure_of_a_class_and_of_the_one_they_were_drawn_of(size, monkeypatch):
    monkeypatch.setattr(scorer_module, "_CHUNK_SIZE", 48)
    fake, labels = images(1, 200), np.arange(200) % 3
    probabilities = scipy.special.softmax(8 * extract(fake).logits.astype(np.float64), axis=1)
    labelled = Scorer(three_classes(), "noise", OfItsClasses(), 200, 0, labelled=True)
    scores = labelled.score(batches(fake, size), {}, labels=labels).scores
    confident = np.mean(probabilities.max(1) >= 0.9)
    assert scores["confident"] == pytest.approx(confident) and 0.3 < confident < 0.9
    assert scores["label_accuracy"] == pytest.approx(np.mean(probabilities.argmax(1) == labels))


def test_labels_that_are_mixed_up_are_seen_by_the_label_accuracy_alone():
    fake = images(1, 200)
    right = extract(fake).logits.argmax(1)
    labelled = Scorer(three_classes(), "noise", OfItsClasses(), 200, 0, labelled=True)
    first, second = (
        labelled.score(batches(fake), {}, labels=own).scores for own in (right, (right + 1) % 3)
    )
    assert (first.pop("label_accuracy"), second.pop("label_accuracy")) == (1.0, 0.0)
    assert first == second


def test_without_labels_or_classes_of_the_data_there_is_no_such_score():
    unlabelled = Scorer(three_classes(), "noise", OfItsClasses(), 200, 0)
    scores = unlabelled.score(batches(images(1, 200)), {}).scores
    assert "confident" in scores and "label_accuracy" not in scores
    scores = (
        Scorer(three_classes(), "noise", FakeNetwork(), 200, 0, labelled=True)
        .score(batches(images(1, 200)), {})
        .scores
    )
    assert not {"confident", "label_accuracy"} & set(scores)
    with pytest.raises(
        UsageError, match="'label_accuracy' needs samples of known classes, and noise"
    ):
        Scorer(three_classes(), "noise", OfItsClasses(), 200, 0, ["label_accuracy"])


def test_scores_say_which_way_is_better():
    better = ["precision", "recall", "density", "coverage", "inception_score", "modes_covered"]
    better += ["confident", "label_accuracy"]
    assert all(higher_is_better(name) is True for name in [*better, "high_quality"])
    assert all(higher_is_better(name) is False for name in ("fid", "kid", "kl_to_uniform"))
    assert higher_is_better("diversity") is None
    deciding = [score.name for score in deciding_scores()]
    assert deciding == [
        "fid", "kid", "inception_score", "precision", "confident", "label_accuracy", "kl_to_uniform",
        "duality_gap",
    ]  # fmt: skip


def test_the_columns_have_one_order_however_metrics_are_asked_for():
    scores = scorer(metrics=("prdc", "is", "fid", "kid")).score(batches(images(1, 200)), {}).scores
    order = ["fid", "kid", "inception_score", "inception_score_std", "precision", "recall"]
    assert list(scores) == [*order, "density", "coverage"]


RING = DATASETS.build("gaussians")
POINTS = RING.load().examples[:1_500]


def test_points_are_compared_with_their_mixture_alone():
    """Their protocol has no features, and no real examples."""
    ring = Scorer(RING, "gaussians", FEATURES.build("auto"), 1_500, 3)
    result = ring.score(batches(POINTS), {})
    assert result.scores == mode_coverage(POINTS, RING.mixture)
    assert dataclasses.asdict(result.protocol) == {
        "features": "points", "features_digest": "", "resize": "none", "dataset": "gaussians",
        "data_digest": "", "num_real": 0, "num_fake": 1_500, "num_pairs": 0, "quantisation": "none",
        "seed": 3, "classes": "none", "game": "",
    }  # fmt: skip
    assert result.warnings == []


def test_in_pixels_points_have_every_metric_but_the_inception_score():
    pixels = FEATURES.build("pixels")
    scores = Scorer(RING, "gaussians", pixels, 1_500, 3).score(batches(POINTS), {}).scores
    assert set(mode_coverage(POINTS, RING.mixture)) < set(scores)
    assert {"fid", "kid", "precision"} < set(scores) and "inception_score" not in scores
    expected = frechet_distance(Moments.of(RING.load().examples), Moments.of(POINTS))
    np.testing.assert_allclose(scores["fid"], expected, rtol=1e-9)


def test_the_distance_of_pixels_is_that_of_all_pixels_at_once():
    fake = images(1, 200)
    pixels = Scorer(dataset(), "noise", FEATURES.build("pixels"), 200, 0, ["fid"])
    real, moments = (
        Moments.of(array.reshape(len(array), -1) / 255) for array in (images(0, 300), fake)
    )
    scores = pixels.score(batches(fake), {}).scores
    assert scores == {"fid": pytest.approx(frechet_distance(real, moments), rel=1e-9)}


@pytest.mark.parametrize(
    ("data", "features", "metric", "words"),
    [
        (dataset(), "pixels", "is", "'is' needs class logits, and x with features = 'pixels' has"),
        (dataset(), "pixels", "mode_coverage", "'mode_coverage' needs points from a known mixture"),
        (dataset(), "pixels", "is", "has none; accepted: fid, kid, prdc"),
        (RING, "auto", "fid", "'fid' needs feature vectors, and x with features = 'auto' has none"),
        (RING, "auto", "fid", "has none; accepted: mode_coverage"),
        (RING, "pixels", "is", "has none; accepted: fid, kid, prdc, mode_coverage"),
    ],
)
def test_a_metric_that_does_not_suit_is_refused(data, features, metric, words):
    with pytest.raises(UsageError, match=words) as error:
        Scorer(data, "x", FEATURES.build(features), 200, 0, [metric])
    assert "\n" not in str(error.value)


def test_other_points_are_refused():
    ring = Scorer(RING, "gaussians", FEATURES.build("auto"), 1_500, 3)
    with pytest.raises(
        UsageError, match="points are float64 3, and those of gaussians are float32"
    ):
        ring.score(batches(np.zeros([1_500, 3])), {})


def test_memory_does_not_grow_with_the_number_of_images():
    """No more batches are alive than a chunk takes; of the features, the first are kept."""
    alive, most = [], 0

    class Counted(np.ndarray):
        """Arrays that can be watched."""

    def counted():
        nonlocal most
        for batch in np.split(images(2, 500), 50):
            one = batch.copy().view(Counted)
            alive.append(weakref.ref(one))
            most = max(most, sum(ref() is not None for ref in alive))
            yield one

    with (
        mock.patch.object(summary, "NUM_VECTORS", 50),
        mock.patch.object(scorer_module, "_CHUNK_SIZE", 20),
    ):
        kept = scorer_module._summarize(FakeNetwork().extractor(None), counted(), 500)
    assert most <= 4
    assert kept.vectors.shape == (50, 16)
    np.testing.assert_array_equal(kept.vectors, extract(images(2, 500)).vectors[:50])
    assert kept.moments.count == 500
    assert [part.count for part in kept.predictions] == [50] * 10
    assert kept.points is None


def test_a_result_is_written_whole(tmp_path):
    result = scorer().score(batches(images(1, 200)), {"step": 3, "weights": "ema"})
    result.write(tmp_path)
    result.write(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "evaluations.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    assert lines[0]["scores"] == result.scores
    assert lines[0]["fingerprint"] == result.protocol.fingerprint
    assert Result(lines[0]["subject"], result.protocol, lines[0]["scores"], []) == result
    assert read_results(tmp_path) == [result]

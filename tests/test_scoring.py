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

from gan.data.dataset import Dataset, Examples
from gan.errors import UsageError
from gan.evaluation import Moments, frechet_distance
from gan.models.classifier import Seen
from gan.trainers import scoring
from gan.trainers.features import Extractor, Features
from gan.trainers.scoring import METRICS, Result, make_scorer


def see(images):
    """Features that can be computed by hand: pixels; their first three are the logits."""
    flat = images.reshape(len(images), -1) / np.float32(255)
    return Seen(flat, flat[:, :3])


class Pixels(Features):
    looked_at = 0

    def extractor(self, dataset):
        def counted(images):
            Pixels.looked_at += len(images)
            return see(images)

        return Extractor("pixels", "d1", "none", "", 16, counted)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GAN_CACHE_DIR", str(tmp_path / "cache"))


def images(seed, count):
    return np.random.default_rng(seed).integers(0, 256, [count, 4, 4, 1]).astype(np.uint8)


def dataset(count=300, seed=0):
    examples = Examples(images(seed, count), np.zeros(count, np.int32))
    return Dataset("noise", (4, 4, 1), 1, lambda: examples)


def scorer(count=200, metrics=METRICS, **kwargs):
    return make_scorer(dataset(**kwargs), "noise", Pixels(), count, 0, metrics)


def batches(array, size=37):
    return (array[i : i + size] for i in range(0, len(array), size))


def test_the_fid_is_that_of_all_features_at_once(monkeypatch):
    monkeypatch.setattr(scoring, "_CHUNK", 48)
    fake = images(1, 200)
    result = scorer().score(batches(fake), {"images": "here"})
    real = see(images(0, 300)).vectors
    expected = frechet_distance(Moments.of(real), Moments.of(see(fake).vectors))
    np.testing.assert_allclose(result.scores["fid"], expected, rtol=1e-9)
    logits = see(fake).logits.astype(np.float64)
    scores = []
    for part in np.split(scipy.special.softmax(logits, axis=1), 10):
        scores.append(np.exp(scipy.special.rel_entr(part, part.mean(0)).sum(1).mean()))
    np.testing.assert_allclose(result.scores["inception_score"], np.mean(scores), rtol=1e-6)
    np.testing.assert_allclose(result.scores["inception_score_std"], np.std(scores), rtol=1e-4)


@given(sizes=st.lists(st.integers(1, 90), min_size=1, max_size=8))
def test_however_the_batches_come_the_network_sees_even_ones(sizes):
    array = np.arange(sum(sizes))
    parts = np.split(array, np.cumsum(sizes)[:-1])
    even = list(scoring._even(iter(parts), 32))
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


def test_real_images_are_looked_at_once():
    Pixels.looked_at = 0
    first = scorer().score(batches(images(1, 200)), {})
    assert Pixels.looked_at == 300 + 200
    again = scorer().score(batches(images(1, 200)), {})
    assert Pixels.looked_at == 300 + 200 + 200
    assert again.scores == first.scores
    scorer(seed=3)  # other data
    assert Pixels.looked_at == 300 + 200 + 200 + 300


def test_what_differs_has_another_fingerprint():
    same = scorer().protocol
    assert same.fingerprint == scorer().protocol.fingerprint
    for field in dataclasses.fields(same):
        changed = dataclasses.replace(same, **{field.name: "other"})
        assert changed.fingerprint != same.fingerprint, field.name
    assert scorer(seed=1).protocol.fingerprint != same.fingerprint
    assert scorer(count=201).protocol.fingerprint != same.fingerprint


def test_few_images_are_warned_of(monkeypatch):
    monkeypatch.setattr(scoring, "_FEWEST", 10)
    result = scorer(count=16).score(batches(images(1, 16)), {})
    (warning,) = result.warnings
    assert warning.startswith("16 images are too few for a covariance of 16 features: it has not")
    assert scorer(count=17).score(batches(images(1, 17)), {}).warnings == []


def test_few_real_images_are_refused():
    with pytest.raises(UsageError, match="noise: at least 20 real images are needed, there are 19"):
        make_scorer(
            Dataset("noise", (4, 4, 1), 2, lambda: Examples(images(0, 19), np.arange(19) % 2)),
            "noise", Pixels(), 200, 0,
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

    with mock.patch.object(scoring, "_KEPT", 50), mock.patch.object(scoring, "_CHUNK", 20):
        summary = scoring._summarize(Pixels().extractor(None), counted(), 500)
    assert most <= 4
    assert summary.vectors.shape == (50, 16)
    np.testing.assert_array_equal(summary.vectors, see(images(2, 500)).vectors[:50])
    assert summary.moments.count == 500
    assert [part.count for part in summary.parts] == [50] * 10


def test_a_result_is_written_whole(tmp_path):
    result = scorer().score(batches(images(1, 200)), {"step": 3, "weights": "ema"})
    result.write(tmp_path)
    result.write(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "evaluations.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    assert lines[0]["scores"] == result.scores
    assert lines[0]["fingerprint"] == result.protocol.fingerprint
    assert Result(lines[0]["subject"], result.protocol, lines[0]["scores"], []) == result

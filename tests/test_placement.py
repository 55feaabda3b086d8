"""Where a dataset lies, by its size and by request."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan.data.batches import BatchBlock
from gan.data.dataset import Examples
from gan.data.placement import PLACEMENTS, Placement, choose_placement, make_loader
from gan.errors import UsageError
from gan.sharding import data_mesh

EXAMPLES = Examples(np.zeros([100, 10, 10, 1], np.uint8), np.zeros(100, np.int32))  # 10,400 bytes


@given(size=st.integers(1, 10**14), devices=st.integers(1, 64), limit=st.integers(1, 10**11))
def test_it_takes_no_more_of_a_device_than_it_may(size, devices, limit):
    bytes_per_device = {
        Placement.REPLICATED: size,
        Placement.SHARDED: size / devices,
        Placement.STREAMED: 0,
    }
    chosen = choose_placement(size, devices, limit)
    assert bytes_per_device[chosen] <= limit
    simpler = list(bytes_per_device)[: list(bytes_per_device).index(chosen)]
    assert all(bytes_per_device[other] > limit for other in simpler)


def test_the_choice_is_said(monkeypatch, caplog):
    caplog.set_level("INFO")
    for limit, words in {
        20_000: "10.4 kB, a copy on each device",
        2_000: "10.4 kB, a part on each device",
        1_000: "10.4 kB, streamed",
    }.items():
        monkeypatch.setattr("gan.data.placement.device_memory", lambda mesh, limit=limit: 4 * limit)
        make_loader(PLACEMENTS.build("auto"), EXAMPLES, 8, 1, data_mesh(8))
        line = f"data: {words} (data_placement = 'auto'; up to {limit // 1_000} kB a device)"
        assert line in caplog.text


def test_it_can_be_forced(caplog):
    caplog.set_level("INFO")
    loader = make_loader(PLACEMENTS.build("streamed"), EXAMPLES, 8, 1, data_mesh(1))
    assert isinstance(loader.at(0, 0).data, BatchBlock)
    assert "data: 10.4 kB, streamed\n" in caplog.text


def test_the_nearest_name_is_told():
    with pytest.raises(UsageError, match="did you mean 'streamed'"):
        PLACEMENTS.build("stream")

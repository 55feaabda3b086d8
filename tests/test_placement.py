"""Where a dataset goes by its size, and by word."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan.data.batches import Block
from gan.data.dataset import Examples
from gan.data.placement import PLACEMENTS, Placement, device_memory, fitting, make_feed
from gan.errors import UsageError
from gan.sharding import data_mesh

EXAMPLES = Examples(np.zeros([100, 10, 10, 1], np.uint8), np.zeros(100, np.int32))  # 10,400 bytes


@given(size=st.integers(1, 10**14), devices=st.integers(1, 64), fits=st.integers(1, 10**11))
def test_it_takes_no_more_of_a_device_than_it_may(size, devices, fits):
    share = {
        Placement.REPLICATED: size,
        Placement.SHARDED: size / devices,
        Placement.STREAMED: 0,
    }
    chosen = fitting(size, devices, fits)
    assert share[chosen] <= fits
    simpler = list(share)[: list(share).index(chosen)]
    assert all(share[other] > fits for other in simpler)


def test_the_choice_is_said(monkeypatch, caplog):
    caplog.set_level("INFO")
    for fits, words in {
        20_000: "10.4 kB, a copy on each device",
        2_000: "10.4 kB, a part on each device",
        1_000: "10.4 kB, streamed",
    }.items():
        monkeypatch.setattr("gan.data.placement.device_memory", lambda mesh, fits=fits: 4 * fits)
        make_feed(PLACEMENTS.build("auto"), EXAMPLES, 8, 1, data_mesh(8))
        line = f"data: {words} (data_placement = 'auto'; up to {fits // 1_000} kB a device)"
        assert line in caplog.text


def test_it_can_be_forced(caplog):
    caplog.set_level("INFO")
    feed = make_feed(PLACEMENTS.build("streamed"), EXAMPLES, 8, 1, data_mesh(1))
    assert isinstance(feed.at(0, 0).data, Block)
    assert "data: 10.4 kB, streamed\n" in caplog.text


def test_the_nearest_name_is_told():
    with pytest.raises(UsageError, match="did you mean 'streamed'"):
        PLACEMENTS.build("stream")


def test_cpu_devices_share_the_memory():
    one, eight = device_memory(data_mesh(1)), device_memory(data_mesh(8))
    assert one // 8 == eight > 10**8

"""Event files as TensorBoard reads them, beside those that TensorFlow writes."""

import io

import numpy as np
from PIL import Image
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.util.tensor_util import make_ndarray

from gan.event_files import EventFileWriter

SCALARS = {1: {"loss/generator": 0.1, "steps": 3}, 4: {"loss/generator": float("nan")}}
GREY = np.random.default_rng(0).integers(0, 256, [1, 12, 20, 1], np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, [2, 12, 20, 3], np.uint8)


def write(writer):
    for step, scalars in SCALARS.items():
        writer.write_scalars(step, scalars)
    writer.write_images(4, {"grey": GREY, "colour": COLOUR})
    writer.close()


def pixels(pngs):
    return np.stack([np.asarray(Image.open(io.BytesIO(png))) for png in pngs])


def test_tensorboard_reads_the_values_back(tmp_path):
    write(EventFileWriter(tmp_path))
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    events.Reload()
    assert set(events.PluginTagToContent("scalars")) == {"loss/generator", "steps"}
    assert set(events.PluginTagToContent("images")) == {"grey", "colour"}
    losses = events.Tensors("loss/generator")
    assert [event.step for event in losses] == [1, 4]
    values = [make_ndarray(event.tensor_proto).item() for event in losses]
    np.testing.assert_array_equal(values, np.array([0.1, np.nan], np.float32))
    for name, images in {"grey": GREY[..., 0], "colour": COLOUR}.items():
        (event,) = events.Tensors(name)
        width, height, *pngs = make_ndarray(event.tensor_proto)
        assert (event.step, width, height) == (4, b"20", b"12")
        np.testing.assert_array_equal(pixels(pngs), images)


def summaries(folder):
    """Returns step, tag, kind and content of each summary in the one event file of a folder."""
    (path,) = folder.iterdir()
    found = []
    for event in map(Event.FromString, RawEventFileLoader(str(path)).Load()):
        for value in event.summary.value:
            content = make_ndarray(value.tensor)
            if content.dtype == object:  # the PNGs of two libraries differ, not their pixels
                content = [*content[:2], *map(bytes, pixels(content[2:]))]
            found.append((event.step, value.tag, value.metadata, repr(content)))
    return found


def test_tensorflow_writes_the_same(tmp_path, tensorflow):
    from clu.metric_writers import SummaryWriter

    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    write(EventFileWriter(tmp_path / "ours"))
    write(SummaryWriter(str(tmp_path / "theirs")))
    assert len(summaries(tmp_path / "ours")) == 5
    assert summaries(tmp_path / "ours") == summaries(tmp_path / "theirs")


def test_two_writers_in_one_folder_have_a_file_each(tmp_path):
    for writer in [EventFileWriter(tmp_path) for _ in range(5)]:
        write(writer)
    assert len(list(tmp_path.iterdir())) == 5


def test_what_was_written_can_be_read_before_the_file_is_closed(tmp_path):
    writer = EventFileWriter(tmp_path)
    for step, scalars in SCALARS.items():
        writer.write_scalars(step, scalars)
    assert len(summaries(tmp_path)) == 3
    writer.write_images(4, {"grey": GREY})
    assert len(summaries(tmp_path)) == 4
    writer.close()

"""Event files of TensorBoard, written without TensorFlow."""

import io
import os
import pathlib
import socket
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.image.metadata import create_summary_metadata
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto


class EventFileWriter:
    """Writes scalars and images to a new event file, in the form in which TensorFlow writes them.

    A write that fails raises where it is called: `tensorboard`'s own class of this name writes in a
    thread, which prints a traceback of its own.

    Args:
      folder: The folder of the file.
    """

    def __init__(self, folder: pathlib.Path):
        host = f"{socket.gethostname()}.{os.getpid()}"
        path = folder / f"events.out.tfevents.{time.time():.6f}.{host}"  # TensorBoard sorts by name
        self._records = RecordWriter(path.open("xb"))
        self._write(file_version="brain.Event:2")

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Writes the scalars of a step."""
        for name, value in scalars.items():
            self._write(step=step, summary=scalar_pb(name, float(value)))
        self.flush()  # for a TensorBoard that watches

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes uint8 images `[N, H, W, C]`, grey or in colour, as PNG."""
        for name, batch in images.items():
            height, width = batch.shape[1:3]
            tensor = make_tensor_proto([b"%d" % width, b"%d" % height, *map(_png, batch)])
            value = Summary.Value(
                tag=name, tensor=tensor, metadata=create_summary_metadata(None, None)
            )
            self._write(step=step, summary=Summary(value=[value]))
        self.flush()

    def flush(self) -> None:
        """Hands what was written to the operating system."""
        self._records.flush()

    def close(self) -> None:
        """Closes the file."""
        self._records.close()

    def _write(self, **fields: Any) -> None:
        self._records.write(Event(wall_time=time.time(), **fields).SerializeToString())


def _png(image: np.ndarray) -> bytes:
    """Encodes an image `[H, W, C]`."""
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG")
    return file.getvalue()

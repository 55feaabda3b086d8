import jax
import jax.numpy as jnp
import numpy as np

from gan.data.batches import DeviceDataset, batch_at


def test_batch_has_floats_labels_and_its_index():
    examples = jnp.arange(6, dtype=jnp.uint8).reshape(6, 1, 1, 1) * 51
    labels = jnp.arange(6, dtype=jnp.int32)
    batch = jax.jit(batch_at, static_argnums=1)(DeviceDataset(examples, labels, 6), 4, 0, 7)
    np.testing.assert_allclose(batch.examples[:, 0, 0, 0], batch.labels * 0.4 - 1, atol=1e-6)
    assert batch.examples.dtype == jnp.float32
    assert int(batch.update) == 7

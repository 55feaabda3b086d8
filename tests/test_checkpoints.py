import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan.checkpoints import Checkpoints
from gan.config import TrainConfig
from gan.errors import RunError
from gan.trainers.experiment import build

CONFIG = TrainConfig(generator="mlp(4, 1)", discriminator="mlp(4, 1)", batch_size=8)


def test_a_state_comes_back_bit_by_bit(tmp_path):
    experiment = build(CONFIG)
    state = experiment.init_on_mesh()
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, state, {"seed": 1}, {"loss": 0.5})
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step() == 3
        assert checkpoints.config(3) == {"seed": 1}
        restored = checkpoints.restore(3, experiment.state_target())
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, restored, state)


def test_a_save_survives_an_exception(tmp_path):
    state = {"x": jnp.arange(4)}
    with pytest.raises(KeyboardInterrupt), Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, {}, {})
        raise KeyboardInterrupt
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.all_steps() == [1]


def test_the_newest_are_kept(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step in range(1, 6):
            checkpoints.save(step, {"x": jnp.ones(step)}, {}, {})
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.all_steps() == [3, 4, 5]


@pytest.mark.parametrize(
    "target",
    [
        {"x": jax.ShapeDtypeStruct((5,), jnp.float32)},
        {"x": jax.ShapeDtypeStruct((4,), jnp.int32)},
        {"y": jax.ShapeDtypeStruct((4,), jnp.float32)},
    ],
)
def test_another_shape_type_or_name_is_one_clear_line(tmp_path, target):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"x": jnp.ones(4)}, {}, {})
        checkpoints.wait()
        with pytest.raises(RunError, match=r"x is \(\(4,\), 'float32'\) there and") as error:
            checkpoints.restore(1, target)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "optimizer", ["noisy_sgd(0.1, key=1)", "optimistic_adam(0.1)", "muon(0.1)"]
)
@pytest.mark.parametrize("dynamics", ["past_extragradient", "lookahead(extragradient)"])
def test_optimizers_and_dynamics_come_back_with_all_they_remember(tmp_path, optimizer, dynamics):
    config = dataclasses.replace(CONFIG, generator_optimizer=optimizer, dynamics=dynamics)
    experiment = build(config)
    state = experiment.init_on_mesh()
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, {}, {})
        checkpoints.wait()
        restored = checkpoints.restore(1, experiment.state_target())

    def words(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(leaf) if is_key else leaf

    jax.tree.map(lambda a, b: np.testing.assert_array_equal(words(a), words(b)), restored, state)


def test_damage_is_one_clear_line(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"x": jnp.ones(4)}, {}, {})
    (tmp_path / "checkpoints" / "1" / "state" / "manifest.ocdbt").write_bytes(b"")
    (tmp_path / "checkpoints" / "7").mkdir()
    target = {"x": jax.ShapeDtypeStruct((4,), jnp.float32)}
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 7):
            with pytest.raises(RunError, match=f"checkpoints/{step} cannot be read") as error:
                checkpoints.restore(step, target)
            assert "\n" not in str(error.value)

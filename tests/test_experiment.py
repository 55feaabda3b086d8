import dataclasses

import jax
import numpy as np
import pytest

from gan.config import TrainConfig
from gan.errors import UsageError
from gan.losses import LOSSES, Loss
from gan.regularizers import REGULARIZERS
from gan.trainers.experiment import build


def small(**changes):
    parts = {"generator": "mlp(4, 1)", "discriminator": "mlp(4, 1)", "batch_size": 8}
    return TrainConfig(**(parts | changes))


def test_init_is_a_pure_function_of_the_seed():
    one, again = (build(small(seed=3)).init_on_mesh() for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    other = build(small(seed=4)).init_on_mesh()
    assert not np.array_equal(
        one.players.generator.params["Dense_0"]["kernel"],
        other.players.generator.params["Dense_0"]["kernel"],
    )


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (
            "best('los/generator')",
            "no metric 'los/generator' is logged; did you mean 'loss/generator'",
        ),
        ("best('fid')", "known: eval/..., diversity, grad_norm/discriminator"),
        ("best('penalty/r2')", "did you mean 'penalty/r1'"),
        ("best('eval/fid')", "only where eval_every_steps is not 0"),
        ("last", "did you mean 'latest'"),
        ("every", "missing a required argument: 'steps'"),
    ],
)
def test_rules_for_checkpoints_are_checked(rule, words):
    with pytest.raises(UsageError, match=words):
        build(small(keep_checkpoints=(rule,), regularizers=("r1",)))


@pytest.mark.parametrize(
    "metric", ["loss/generator", "diversity", "penalty/r1", "preconditioned_rms/generator"]
)
def test_what_is_logged_can_keep_a_checkpoint(metric):
    build(small(keep_checkpoints=(f"best('{metric}')",), regularizers=("r1",)))


def test_metrics_of_scores_are_checked_before_any_work():
    with pytest.raises(UsageError, match=r"eval_metrics = .*duality_gap: steps must be at least 1"):
        build(small(eval_metrics=("duality_gap(steps=0)",)))
    with pytest.raises(
        UsageError, match=r"eval_metrics = .*metric 'mode_coverage' needs points from"
    ):
        build(small(eval_metrics=("fid", "mode_coverage")))
    scored = {"eval_every_steps": 10, "checkpoint_every_steps": 10}
    best = ("best('eval/duality_gap')",)
    build(small(eval_metrics=("duality_gap",), keep_checkpoints=best, **scored))
    with pytest.raises(UsageError, match="no score 'eval/duality_gap' is measured"):
        build(small(keep_checkpoints=best, **scored))


def test_the_target_describes_the_state():
    experiment = build(small())
    target, state = experiment.state_target(), experiment.init_on_mesh()
    assert jax.tree.structure(target) == jax.tree.structure(state)
    for described, leaf in zip(jax.tree.leaves(target), jax.tree.leaves(state), strict=True):
        assert (described.shape, described.dtype) == (leaf.shape, leaf.dtype)
        assert described.sharding == leaf.sharding


def test_the_average_is_a_copy():
    """Donating the state would free an array twice if the average shared it."""
    state = build(small()).init_on_mesh()
    pointers = [leaf.unsafe_buffer_pointer() for leaf in map(first_shard, jax.tree.leaves(state))]
    assert len(set(pointers)) == len(pointers)


def first_shard(leaf):
    return leaf.addressable_shards[0].data


def test_a_best_that_is_never_saved_is_refused():
    """Scored at 15, 30, ..., saved at 10, 20, ...: together only at 30."""
    parts = {
        "dataset": "gaussians", "generator": "mlp(8, 1)", "discriminator": "mlp(8, 1)",
        "keep_checkpoints": ("best('eval/kl_to_uniform')",), "eval_every_steps": 15,
        "checkpoint_every_steps": 10,
    }  # fmt: skip
    with pytest.raises(UsageError, match="no checkpoint is saved at a step that is scored"):
        build(TrainConfig(num_steps=25, **parts))
    for num_steps in (40, 15, 5):  # the last is saved too; a short trial is not scored at all
        build(TrainConfig(num_steps=num_steps, **parts))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 12}, ["batch_size = 12", "8 devices", "8 or 16 would"]),
        ({"mesh": "data(9)"}, ["mesh = 'data(9)'", "1 to 8", "given 9"]),
        ({"generator": "dcgn"}, ["generator = 'dcgn'", "did you mean 'dcgan'?"]),
        ({"loss": "hing"}, ["loss = 'hing'", "did you mean 'hinge'?"]),
        ({"dynamics": "alternating(0)"}, ["dynamics = 'alternating(0)'", "in [1, 100], given 0"]),
        ({"averaging": ("ema(2.0)",)}, ["averaging = 'ema(2.0)'", "[0, 1), given 2.0"]),
        ({"regularizers": ("r3",)}, ["regularizers = 'r3'", "did you mean 'r2'?"]),
        ({"generator_optimizer": "adma(1e-4)"}, ["generator_optimizer", "did you mean 'adam'?"]),
        ({"generator_optimizer": "adam(1e-4, b3=1)"}, ["unknown argument 'b3'", "'b2'"]),
        ({"discriminator_optimizer": "constant_schedule(1.0)"}, ["is no optimizer by itself"]),
        ({"dataset": "gaussians", "generator": "dcgan"}, ["generator = 'dcgan'", "is 2"]),
        ({"generator": "mlp(conditional=True)"}, ["conditional must be the same"]),
        ({"averaging": ("ema(0.9)", "ema(decay=0.9)")}, ["the same average is there twice"]),
        ({"eval_features": "clasifier"}, ["did you mean 'classifier'"]),
        ({"batch_size": 24, "microbatches": 2}, ["microbatches = 2", "16 or 32 would"]),
        ({"generator_batch_size": 20}, ["generator_batch_size = 20", "16 or 24 would"]),
        (
            {"dynamics": "alternating(reuse_fakes=True)", "generator_batch_size": 16},
            ["dynamics = 'alternating(reuse_fakes=True)'", "must be None or 8, given 16"],
        ),
        (
            {
                "dynamics": "lookahead(alternating(reuse_fakes=True))",
                "microbatches": 2,
                "batch_size": 16,
            },
            ["dynamics = 'lookahead(alternating", "microbatches must be 1, given 2"],
        ),
        ({"loss": "acgan"}, ["is about classes", "it takes conditional=True"]),
        ({"loss": "acgan(hing)"}, ["did you mean 'hinge'?"]),
        ({"loss": "top_k(fraction=0)"}, ["fraction must be in (0, 1], given 0"]),
        (
            {"generator": "dcgan(4)", "regularizers": ("path_length",)},
            ["regularizers = 'path_length'", "without batch normalisation"],
        ),
        (
            {"dataset": "gaussians", "discriminator_augmentation": "diffaugment"},
            ["discriminator_augmentation = 'diffaugment'", "of images"],
        ),
        (
            {"discriminator_augmentation": "ada", "loss": "top_k(wasserstein)"},
            ["discriminator_augmentation = 'ada'", "sign", "ada(p=0.3)"],
        ),
        ({"discriminator_augmentation": "ada(p=1.5)"}, ["p must be in [0, 1], given 1.5"]),
        (
            {"discriminator_augmentation": "flip"},
            ["'flip'", "it is of another kind: data augmentation"],
        ),
        (
            {"generator_optimizer": "by_path(adam(1e-3), ('Dens_0', adam(1e-4)))"},
            ["Dens_0", "did you mean 'Dense_0'"],
        ),
        ({"precision": "float16"}, ["precision", "float32", "bfloat16"]),
        ({"keep_checkpoints": ("best('penalty/r1')",)}, ["no metric 'penalty/r1' is logged"]),
    ],
)
def test_misuse_names_the_key(changes, words):
    with pytest.raises(UsageError) as error:
        build(small(**changes))
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


ENDS_AT_100 = "linear_schedule(1e-3, 0.0, 50, 50)"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"microbatches": 2}, []),
        ({"regularizers": ("r1(approximate=True, sigma=0.001)",)}, []),
        (
            {"regularizers": ("r1(approximate=True, sigma=0.001)",), "precision": "bfloat16"},
            ["r1: sigma = 0.001", "rounding"],
        ),
        (
            {"microbatches": 2, "generator": "dcgan(4)"},
            ["is not the same", "generator = 'dcgan(4)'"],
        ),
        (
            {"microbatches": 2, "discriminator": "stylegan2(64, 8)"},
            ["is not the same", "discriminator = 'stylegan2(64, 8)'"],
        ),
        (
            {"dynamics": "lookahead(tiada)", "discriminator_optimizer": "sgd(0.1)"},
            ["generator_optimizer = 'optimistic_adam(2e-4, b1=0.5)' does so again"],
        ),
        ({"num_steps": 100, "generator_optimizer": f"adam({ENDS_AT_100})"}, []),
        (
            {"num_steps": 200, "generator_optimizer": f"adam({ENDS_AT_100})"},
            ["generator_optimizer: learning_rate is 0 from step 100 on, and num_steps = 200"],
        ),
        (
            {"num_steps": 200, "generator_optimizer": "adam(cosine_decay_schedule(1e-3, 150))"},
            ["learning_rate is 0 from step 150 on"],
        ),
        (
            {
                "num_steps": 200,
                "discriminator_optimizer": f"by_path(adam(1e-3), ('bias', adam({ENDS_AT_100})))",
            },
            ["discriminator_optimizer: learning_rate/bias is 0 from step 100 on"],
        ),
        ({"microbatches": 2, "loss": "top_k"}, ["is not the same", "loss = 'top_k'"]),
        ({"microbatches": 2, "regularizers": ("lecam", "r1")}, ["for lecam: each part"]),
    ],
)
def test_what_may_not_do_as_expected_is_said(changes, words):
    text = "\n".join(build(small(batch_size=16, **changes)).find_warnings())
    assert bool(text) == bool(words)
    for word in words:
        assert word in text


@pytest.mark.parametrize(
    "changes",
    [{"batch_size": 6}, {"batch_size": 12, "microbatches": 2}, {"generator_batch_size": 10}],
)
def test_a_batch_that_a_network_refuses_is_refused_before_any_work(changes):
    with pytest.raises(UsageError, match="groups of 4 do not divide a batch, or a part of it, of"):
        build(small(discriminator="stylegan2(64, 8)", mesh="data(1)", **changes))


def test_a_regularizer_that_would_share_its_state_with_the_augmentation(monkeypatch):
    monkeypatch.setitem(REGULARIZERS._makers, "augmentation", REGULARIZERS.maker("lecam"))
    with pytest.raises(UsageError, match="'augmentation' is the name of another state"):
        build(small(regularizers=("augmentation",)))


@jax.custom_vjp
def once_differentiable(x):
    return x.mean()


def _backward(x, g):
    steps = jax.lax.while_loop(lambda c: c[0] < 1, lambda c: (c[0] + 1, 2 * c[1]), (0, x * g))
    return (steps[1],)  # JAX cannot differentiate a while loop backwards


once_differentiable.defvjp(lambda x: (x.mean(), x), _backward)


@pytest.mark.parametrize(
    "dynamics", ["consensus", "sga", "lookahead(consensus)", "rk(2, penalty=0.1)"]
)
def test_a_dynamics_that_needs_a_derivative_that_is_not_there(monkeypatch, dynamics):
    loss = Loss(
        discriminator=lambda real, fake: once_differentiable(fake - real),
        generator=lambda real, fake: -once_differentiable(fake),
    )
    monkeypatch.setitem(LOSSES._makers, "once", lambda: loss)
    build(small(loss="once"))
    with pytest.raises(
        UsageError,
        match="needs the derivative of the vector field, and cannot take it of loss = 'once'",
    ):
        build(small(loss="once", dynamics=dynamics))


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("eval/fidd", "did you mean 'eval/fid'"),
        ("eval/FID", "no score 'eval/FID' is measured"),
        ("eval/is", "no score 'eval/is' is measured"),
        ("eval/prdc", "no score 'eval/prdc' is measured"),
    ],
)
def test_a_score_that_is_never_measured_is_refused(metric, words):
    with pytest.raises(UsageError, match=words):
        build(small(keep_checkpoints=(f"best('{metric}')",), eval_every_steps=1_000))


IMAGES = [
    "fid",
    "kid",
    "inception_score",
    "precision",
    "recall",
    "density",
    "coverage",
    "confident",
]
POINTS = ["modes_covered", "high_quality", "kl_to_uniform"]


@pytest.mark.parametrize(("dataset", "measured"), [("digits", IMAGES), ("gaussians", POINTS)])
def test_every_score_that_suits_can_decide_which_checkpoint_is_best(dataset, measured):
    for name in IMAGES + POINTS:
        config = small(
            dataset=dataset, keep_checkpoints=(f"best('eval/{name}')",), eval_every_steps=1_000
        )
        if name in measured:
            build(config)
            continue
        with pytest.raises(UsageError, match=f"no score 'eval/{name}' is measured of dataset ="):
            build(config)


def test_a_conditional_network_needs_classes(tmp_path):
    np.savez(tmp_path / "x.npz", images=np.zeros([30, 8, 8], np.uint8))
    plain = small(dataset=f"npz('{tmp_path / 'x.npz'}')")
    build(plain)
    conditional = dict.fromkeys(("generator", "discriminator"), "mlp(4, 1, conditional=True)")
    with pytest.raises(
        UsageError, match=r"is conditional, and dataset = .* has no classes; images"
    ):
        build(dataclasses.replace(plain, **conditional))

"""Optimizers and schedules by the names of our specs."""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch.optim import SGD, Adam, Optimizer

from gan.registry import Registry

Schedule: TypeAlias = Callable[[int], float]
"""Takes the number of generator updates before this one."""

SCHEDULES: Registry[Schedule] = Registry("PyTorch schedule", Callable)


@SCHEDULES.register("linear_schedule")
def linear_schedule(init_value: float, end_value: float, transition_steps: int) -> Schedule:
    def schedule(step: int) -> float:
        return init_value + (end_value - init_value) * min(step / transition_steps, 1.0)

    return schedule


@SCHEDULES.register("cosine_schedule")
def cosine_schedule(init_value: float, end_value: float, transition_steps: int) -> Schedule:
    def schedule(step: int) -> float:
        ratio = min(step / transition_steps, 1.0)
        return end_value + (init_value - end_value) * (1 + math.cos(math.pi * ratio)) / 2

    return schedule


OPTIMIZERS: Registry[Optimizer] = Registry(
    "PyTorch optimizer", Optimizer, context=("params",), lender=SCHEDULES
)


@OPTIMIZERS.register("adam")
def adam(
    params: Any,
    learning_rate: float | Schedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
) -> Optimizer:
    first = learning_rate(0) if callable(learning_rate) else learning_rate
    optimizer = Adam(params, first, (b1, b2), eps, fused=True)
    for group in optimizer.param_groups:
        group["schedule"] = learning_rate if callable(learning_rate) else None
    return optimizer


def set_rates(optimizer: Optimizer, step: int) -> None:
    """Sets the learning rates that go by a schedule to those after so many steps."""
    for group in optimizer.param_groups:
        if (schedule := group.get("schedule")) is not None:
            group["lr"] = schedule(step)


@OPTIMIZERS.register("sgd")
def sgd(
    params: Any, learning_rate: float, momentum: float = 0.0, nesterov: bool = False
) -> Optimizer:
    return SGD(params, learning_rate, momentum, nesterov=nesterov)


@OPTIMIZERS.register("optimistic_adam")
class OptimisticAdam(Optimizer):
    """Optimistic Adam: -(learning_rate + strength) r_t + strength r_{t-1}, with r_0 = 0.

    Here r_t is Adam's direction. The sum of all steps is that of Adam's,
    q_t - q_0 = -learning_rate (r_1 + ... + r_t), and -strength r_t. So the parameters are
    q_t + strength / learning_rate (q_t - q_{t-1}), and Adam can be PyTorch's own.
    """

    def __init__(
        self,
        params: Any,
        learning_rate: float,
        strength: float | None = None,
        *,
        b1: float = 0.9,
        b2: float = 0.999,
        eps: float = 1e-8,
    ):
        if learning_rate <= 0:
            raise ValueError(f"learning_rate must be above 0, given {learning_rate}")
        super().__init__(params, {})
        self.params = self.param_groups[0]["params"]
        self.plain = [param.detach().clone() for param in self.params]  # q
        self.adam = Adam(self.plain, learning_rate, (b1, b2), eps, fused=True)
        self.weight = 1 + (1.0 if strength is None else strength / learning_rate)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        torch._foreach_copy_(self.params, self.plain)
        for plain, param in zip(self.plain, self.params, strict=True):
            plain.grad = param.grad
        self.adam.step()
        self.adam.zero_grad()
        torch._foreach_lerp_(self.params, self.plain, self.weight)

"""A cost by hand: 100 bytes of weights and of gradients, 200 of the optimizer, 10 an example and 100 beside."""

from bmp.plan.cost import Cost
from bmp.plan.flops import Flops
from bmp.plan.line import Line

COST = Cost(
    trainable=25,
    frozen=0,
    weights_bytes=100,
    gradient_bytes=100,
    optimizer_bytes=200,
    forward=Flops(50),
    kept=Line(0, 8),
    working=Line(100, 10),
    pushed=Line(40, 1),
)

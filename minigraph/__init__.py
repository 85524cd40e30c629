"""minigraph: computational graphs that can be seen, read, and run fast.

One engine runs the same Python in dynamic mode (define-by-run) and in static mode (`mg.compile`, `mg.Graph`).

>>> x = mg.tensor([1.0, 2.0], requires_grad=True)
>>> loss = (x * x).sum()
>>> loss.backward()
>>> x.grad
tensor([2., 4.], dtype=float32)
>>> mg.compile(lambda x: (x * x).sum())(x)
tensor(5., dtype=float32, op=item)
"""

from numpy import dtype as _dtype

from . import backend, errors, ops, tree
from .autodiff import checkpoint, grad, hessian, jacobian, jvp, stop_gradient, value_and_grad, vjp
from .backend import device
from .graph import Graph, placeholder
from .op import OPS, Op, Spec, enable_grad, named_scope, no_grad, op
from .ops import *
from .tensor import Tensor, asarray, tensor
from .trace import compile, record
from .variable import Variable

from . import compiler, data, debug, interop, nn, optim  # isort: skip
from .ops import random, trace  # isort: skip - `trace` is the sum of a diagonal; the module of that name stays importable
from .interop import load, load_checkpoint, load_metadata, save, save_checkpoint  # isort: skip

float16, float32, float64 = _dtype("float16"), _dtype("float32"), _dtype("float64")
int8, int16, int32, int64 = _dtype("int8"), _dtype("int16"), _dtype("int32"), _dtype("int64")
uint8, uint16, uint32, uint64 = _dtype("uint8"), _dtype("uint16"), _dtype("uint32"), _dtype("uint64")
bool = _dtype("bool")

__version__ = "0.1.0"

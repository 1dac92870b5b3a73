"""The one door to torch and torch_geometric for graphs: layers with seeded weights, sparse tensors, threads.

Of torch_geometric only layers and models are used, on torch's own sparse tensors; pyg-lib, torch-sparse and torch-cluster
are not needed.
"""

from __future__ import annotations

import importlib
import threading
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedders.base import Encoder
from embedders.errors import InputError, MissingPackageError

if TYPE_CHECKING:
    import torch
    from torch import nn

SLOPE = 0.25  # that PReLU begins with (He et al. 2015)
_LOCK = threading.Lock()


def import_geometric(kind: str) -> Any:
    """The module torch_geometric.nn; `kind` is the embedder that asks.

    Raises
    ------
    MissingPackageError : torch or torch_geometric is not installed.
    """
    for package in ("torch", "torch_geometric"):
        if find_spec(package) is None:
            raise MissingPackageError(package.replace("_", "-"), "graph", f"The embedder {kind!r}")
    with _LOCK, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated", category=DeprecationWarning)
        return importlib.import_module("torch_geometric.nn")


def seeded(build: Callable[[], nn.Module], seed: int, device: str) -> nn.Module:
    """The module that `build` makes, with weights of Glorot and Bengio (2010), biases 0 and slopes of PReLU as usual.

    torch's global random numbers are left alone, which other threads may be using.
    """
    import torch

    with torch.device("meta"):
        module = build()
    module = module.to_empty(device="cpu")
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            for weight in part.parameters(recurse=False):
                if weight.dim() > 1:
                    reach = (6 / (weight.shape[0] + weight.shape[1])) ** 0.5
                    weight.uniform_(-reach, reach, generator=random)
                else:
                    weight.fill_(SLOPE if isinstance(part, torch.nn.PReLU) else 0.0)
    return module.to(device)


def arrays_of(module: nn.Module) -> dict[str, NDArray[Any]]:
    """What the module learned, by name."""
    return {name: weight.cpu().numpy() for name, weight in module.state_dict().items()}


def take(module: nn.Module, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Give the module what `arrays_of` gave."""
    import torch

    module.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})


def check_layers(build: Callable[[], nn.Module], start: Encoder[Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Refuse a start whose arrays do not fit the module that `build` makes.

    Raises
    ------
    InputError : a name or a shape differs.
    """
    import torch

    with torch.device("meta"):
        wanted = {name: tuple(weight.shape) for name, weight in build().state_dict().items()}
    got = {name: array.shape for name, array in arrays.items()}
    if wanted != got:
        raise InputError(
            f"Got a start of kind {start.recipe.kind!r} with weights {got}; expected {wanted}. "
            "Make kind, dim, hidden and the features alike, or leave start out."
        )


def tensor(matrix: Any, device: str) -> torch.Tensor:
    """A float32 array, or a SciPy matrix in compressed rows, as torch's; 32-bit places, with which products are faster."""
    import torch

    _sparse()
    if isinstance(matrix, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(matrix, np.float32)).to(device)
    place = np.int32 if matrix.nnz < 2**31 else np.int64
    ends, columns, values = (
        torch.from_numpy(np.asarray(part, kind))
        for part, kind in ((matrix.indptr, place), (matrix.indices, place), (matrix.data, np.float32))
    )
    return torch.sparse_csr_tensor(ends, columns, values, size=matrix.shape, check_invariants=False).to(device)


@cache
def _sparse() -> None:
    """Have torch say that compressed rows are in beta, which it does once a process, where nobody hears it."""
    import torch

    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        torch.eye(1).to_sparse_csr()

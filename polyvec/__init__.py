"""polyvec: text, images and graphs as versioned vectors in Parquet.

`import polyvec` is cheap; the names below are imported when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embedders.base import Embedder
    from flows.pipeline import Pipeline
    from storage.store import VectorStore

__all__ = ["Embedder", "Pipeline", "VectorStore"]

_HOMES = {"Embedder": "embedders.base", "Pipeline": "flows.pipeline", "VectorStore": "storage.store"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'polyvec' has no attribute {name!r}")

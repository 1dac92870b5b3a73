"""The entries of `outputs:`: what is made of spaces."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from storage.manifest import Recipe

LATER_OUTPUTS = {
    "index": "Ask with `polyvec search`.",
    "projection": "The run report draws each new space.",
    "drift": "Compare versions with `polyvec diff`.",
}
"""Kinds of the design that are not built yet, and what to do instead."""


class Recommend(BaseModel):
    """The items that each user may like best, of a space of users and items."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["recommend"]
    space: str = Field(description="an entry that learns users and items")
    k: int = Field(10, ge=1, le=10_000, description="items a user, at most")
    seen: Literal["filtered", "kept"] = Field(
        "filtered", description="filtered: without what a user met in the dataset as it is"
    )

    @property
    def recipe(self) -> Recipe:
        """As in the manifest."""
        return Recipe(kind=self.kind, version=1, params=self.model_dump(mode="json", exclude={"kind"}))

    @property
    def fingerprint(self) -> str:
        """16 hex digits over all that changes the table, besides versions and dataset."""
        return hashlib.sha256(json.dumps(self.recipe.model_dump(), sort_keys=True).encode()).hexdigest()[:16]

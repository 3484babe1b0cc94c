"""What every model here has in common: nothing that came over the wire is refused for being unknown, or lost."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

Number = int | float
"""A JSON number, spelled as it came: 1 stays 1 and 1.0 stays 1.0."""

Json = dict[str, Any]


class WireModel(BaseModel):
    """A JSON object of the Responses API. Members that are not named here are kept, as are explicit nulls: what was
    read is what `model_dump(exclude_unset=True)` gives back. Values are not coerced: `"5"` is not a number."""

    model_config = ConfigDict(extra="allow", strict=True, use_attribute_docstrings=True, protected_namespaces=())

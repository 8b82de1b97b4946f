"""Objects of a cluster as YAML that people read, in the order in which they were written."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

__all__ = ["to_yaml"]


def to_yaml(manifests: Sequence[dict[str, Any]]) -> str:
    """One YAML stream, for `kubectl apply` or a GitOps repository."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.width = 4096
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    out = io.StringIO()
    yaml.dump_all(list(manifests), out)
    return out.getvalue()

"""Plan a profile of any track: model facts, device, fit, and the commands that would follow."""

from __future__ import annotations

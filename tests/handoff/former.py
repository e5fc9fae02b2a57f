"""The default policy as a release before format 4 stored it: its texts are said as they were."""

from __future__ import annotations

from pathlib import Path

import yaml
from onetouch.policy import Policy, read_policy, read_stored
from onetouch.policy.upgrade import _THEN_3


def former_policy() -> Policy:
    """Today's default with the situations and the message of then, without the keys that format 4 added."""
    document = read_policy().document()
    for path in _THEN_3:
        *sections, key = path.split(".")
        place = document
        for section in sections:
            place = place.get(section, {})
        place.pop(key, None)
    texts = yaml.safe_load(Path(__file__).with_name("former.yaml").read_text(encoding="utf-8"))
    return read_stored({**document, **texts, "format": 3})

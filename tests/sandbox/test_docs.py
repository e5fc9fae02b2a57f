"""docs/sandbox.md tells all there is."""

from __future__ import annotations

import re
from pathlib import Path

from onetouch.sandbox import faults
from onetouch.sandbox.server import build_app

PAGE = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text()


def test_the_page_names_every_address_and_every_key_of_a_fault(tmp_path: Path) -> None:
    app = build_app(tmp_path)
    addresses = {
        (" ".join(m for m in ("GET", "POST", "DELETE") if m in route.methods), route.path)
        for route in app.routes
        if getattr(route, "path", "").startswith("/_sandbox/")
    }
    app.state.store.db.close()
    assert set(re.findall(r"\| `((?:GET|POST|DELETE)[A-Z ]*) (/_sandbox/\w+)`", PAGE)) == addresses
    table = PAGE.partition("## Faults")[2].partition("##")[0]
    first_column = " ".join(line.split("|")[1] for line in table.splitlines() if line.startswith("|"))
    assert set(re.findall(r"`(\w+)`", first_column)) == faults.KEYS | faults.KINDS
    for name in re.findall(r"`([A-Z_]{5,})`", table):
        known = (faults.ERRORS, faults.ROW_ERRORS, faults.HUBSPOT_ERRORS, faults.HUBSPOT_ROW_ERRORS)
        assert any(name in names for names in known), name

"""Data Docs as kept in the lake: pages that need nothing from elsewhere and tell nobody they were opened."""

from __future__ import annotations

import re
from pathlib import Path

from onetouch.lake import Lake

# The generated pages load style, scripts and a logo from seven hosts: without a network they lose the pass/fail
# marks, with one they tell strangers who looks, and beside Airflow's pages foreign scripts would run in its origin.
_FOREIGN = re.compile(
    r"""<script\b.*?</script>|<link\b[^>]*https?://[^>]*>|<img\b[^>]*https?://[^>]*>|url\('https?://[^']*'\)""",
    re.DOTALL | re.IGNORECASE,
)

_HEAD = """<head>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'self' 'unsafe-inline'">
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 62rem; margin: 0 auto; padding: 1rem; }
table { border-collapse: collapse; } td, th { padding: .3rem .8rem; border-bottom: 1px solid #ddd; text-align: left; }
.fa-check-circle::before { content: "✓"; color: #00664b; font-weight: 700; }
.fa-times::before { content: "✗"; color: #b00020; font-weight: 700; }
footer, .modal, .card, .fixed-bottom, .ge-walkthrough-modal { display: none; }
</style>"""


def publish(folder: Path, lake: Lake, run_id: str, stage: str) -> str:
    """Puts the site built in `folder` into the lake as `quality/{run_id}/{stage}/`, in place of one there.

    Returns the path of its index page.
    """
    lake.remove("quality", run_id, stage)
    for page in sorted(folder.rglob("*.html")):
        steps = page.relative_to(folder).parts
        text = _FOREIGN.sub("", page.read_text(encoding="utf-8")).replace("<head>", _HEAD, 1)
        with lake.writing("quality", run_id, stage, *steps) as draft, lake.fs.open(draft, "wb") as file:
            file.write(text.encode())
    return lake.path("quality", run_id, stage, "index.html")

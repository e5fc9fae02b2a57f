"""`python -m onetouch.sandbox --home DIR --port N [--exports DIR]`."""

import argparse
from pathlib import Path

from onetouch.sandbox.server import serve

parser = argparse.ArgumentParser(
    prog="onetouch.sandbox", description="Loopback Salesforce, HubSpot, Slack and Amplitude."
)
parser.add_argument("--home", type=Path, required=True, help="folder of its state; the same folder is the same org")
parser.add_argument("--port", type=int, default=8765, help="port on 127.0.0.1; 0 takes a free one")
parser.add_argument("--exports", type=Path, help="folder of Amplitude export zips to answer from")

if __name__ == "__main__":
    given = parser.parse_args()
    serve(given.home, given.port, given.exports)

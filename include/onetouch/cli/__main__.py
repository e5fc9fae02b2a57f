"""`python -m onetouch.cli`: the same as `onetouch`."""

from onetouch.cli import app

if __name__ == "__main__":
    app(prog_name="onetouch")

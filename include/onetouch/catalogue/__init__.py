"""What exists, declared once; all else derives from it. It imports nothing of the library and nothing heavy."""

from onetouch.catalogue.actions import ACTIONS, Action

__all__ = ["ACTIONS", "Action"]

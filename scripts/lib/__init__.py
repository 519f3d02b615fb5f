"""What the scripts share. Nothing in here is a command, and nothing in here imports what lies outside of it.

A command in one of the other rooms puts scripts/ on the path and imports from here:

  sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
  from lib import ROOT, CannotCheck
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class CannotCheck(Exception):
    """A check could not be made, so nothing is known about what it checks; the message says what is missing."""

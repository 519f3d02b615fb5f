"""What the apps beside this package share: settings, image, the process of the binary, the two forms of serving, bulk work.

The package is mounted into containers beside the app's file, so it imports the standard library and `modal` only.
"""

from .serving import base, serve
from .settings import Settings

__all__ = ["Settings", "base", "serve"]

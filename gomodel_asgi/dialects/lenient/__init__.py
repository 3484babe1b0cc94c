"""The Responses API as sloppy upstreams speak it: read as any foreign API is, and written by the one event writer."""

from .reader import LenientReader
from .reply import LenientTranslator

__all__ = ["LenientReader", "LenientTranslator"]

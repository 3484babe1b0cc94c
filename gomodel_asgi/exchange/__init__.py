"""One Target in, one Reply out."""

from .exchange import Exchange
from .job import Job, Setup
from .reply import Reply

__all__ = ["Exchange", "Job", "Reply", "Setup"]

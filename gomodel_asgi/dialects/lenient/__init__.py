"""The Responses API as sloppy upstreams speak it: read as any foreign API is, and written by the one event writer."""

"""The page of ``edgeq watch``: what the camera sees, live in a browser, and the same as JSON.

Tornado serves it, on a separate thread. It is imported when a page is opened (extra ``web``).
"""

from __future__ import annotations

from edgeq.watching.web.page import WatchPage
from edgeq.watching.web.state import PhotoKeeper

__all__ = ["PhotoKeeper", "WatchPage"]

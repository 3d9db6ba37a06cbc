"""How pages cross a process boundary, should a runner put one between two stages."""

from __future__ import annotations

import pickle
from typing import Any

from apache_beam import coders

from dynamodt.model import AppliedPage, JournalPage, Page, WrittenPage

_ITEM_BYTES = 500


class PageCoder(coders.Coder):
    """Pickles a page. Its size is guessed, not measured: Beam samples the sizes of elements, and would pickle whole
    pages only to throw the bytes away (6 % of the client's CPU, before)."""

    def encode(self, value: Any) -> bytes:
        return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)

    def decode(self, encoded: bytes) -> Any:
        return pickle.loads(encoded)

    def estimate_size(self, value: Any) -> int:
        """Bytes, roughly, from the number of items."""
        page = value.page if isinstance(value, AppliedPage) else value
        return _ITEM_BYTES * (len(page.images) if isinstance(page, Page) else 1)

    def is_deterministic(self) -> bool:
        return False


for _kind in (Page, AppliedPage, WrittenPage, JournalPage):
    coders.registry.register_coder(_kind, PageCoder)

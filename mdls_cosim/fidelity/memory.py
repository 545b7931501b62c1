"""Memory that one solve or read frees and the next one needs."""

from __future__ import annotations

from functools import cache

import torch

_LARGEST_KEPT = 2**25 - 2**16


@cache
def keep_freed_memory() -> None:
    """Lets the C library keep the arrays that are freed, instead of fetching them anew page by page.

    glibc gives freed memory back to the system beyond a threshold that follows the largest block freed so far, up to
    32 MiB (mallopt(3), M_MMAP_THRESHOLD and M_TRIM_THRESHOLD). Freeing one of nearly that size, which was never
    touched, raises it; up to twice as much stays with the process. Other allocators, and thresholds that the
    environment sets, are not affected.
    """
    torch.empty(_LARGEST_KEPT, dtype=torch.uint8)

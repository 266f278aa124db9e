"""What the operating system gives is kept for the next array.

glibc returns the free memory at the end of its heap to the system when that is more than twice the largest block that
was ever mapped and freed, or 128 KiB if none was (mallopt(3): M_TRIM_THRESHOLD, and M_MMAP_THRESHOLD, "dynamic"). So an
op on arrays of some MB would get every page of them anew at each call, which takes longer than the op. One block of
almost 32 MiB, the largest that counts, ends that: up to 64 MiB are kept. It is never written to, and costs nothing.
Other allocators take no notice, and settings of the user's own come first.
"""

import numpy as np


def keep_memory() -> None:
    np.empty((1 << 25) - (1 << 16), np.uint8)

#!/usr/bin/python3
"""The storage initializer: fetches each URI into its folder, with KServe's own downloader.

    initializer-entrypoint URI DIR [URI DIR …]

KServe calls it so. What it says of a failure begins with KServe's words, by which a failed pod is
explained.
"""

from __future__ import annotations

import sys

__all__ = ["main"]

PACKAGES = "/opt/storage-initializer/lib"


def main(words: list[str]) -> int:
    """Fetch; 0 when everything lies in its folder, 1 when something could not be fetched."""
    if not words or len(words) % 2:
        sys.stderr.write("usage: initializer-entrypoint URI DIR [URI DIR …]\n")
        return 1
    sys.path.insert(0, PACKAGES)
    from kserve_storage import Storage  # type: ignore[import-not-found]
    from kserve_storage.logging import (  # type: ignore[import-not-found]
        configure_logging,
        logger,
    )

    configure_logging()
    try:
        Storage.download_files(words[::2], words[1::2])
    except RuntimeError as error:
        logger.error("Storage initialization failed: %s", error)
        return 1
    except Exception as error:
        logger.error("Unexpected error during storage initialization: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

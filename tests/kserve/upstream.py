"""Upstream's initializer as its image runs it: pairs of source and destination, through the published library.

The package has the library alone; this stands in for the image's entry point. Exit 1 on any failure, as there.
"""

import sys

from kserve_storage import Storage
from kserve_storage.logging import configure_logging, logger

configure_logging()
words = sys.argv[1:]
if not words or len(words) % 2:
    print("Usage: initializer-entrypoint src_uri_0 dest_path_0 ... src_uri_n dest_path_n")
    sys.exit(1)
try:
    Storage.download_files(words[::2], words[1::2])
except Exception as error:
    logger.error("Storage initialization failed: %s", error)
    sys.exit(1)

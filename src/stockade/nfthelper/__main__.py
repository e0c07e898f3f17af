# SPDX-License-Identifier: GPL-2.0-or-later
#
# Under the same license as ``holding.py`` beside it, and for the same reason.
"""The program to run: ``python __main__.py SOCKET [NETNS]``. What it does is in ``holding.py``, which Python keeps
compiled: a helper that was killed is missed for as long as the next one needs to begin.
"""

import importlib
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[1]))
    sys.exit(importlib.import_module("nfthelper.holding").main(sys.argv[1:]))

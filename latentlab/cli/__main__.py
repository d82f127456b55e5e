"""``python -m latentlab.cli``, the command line without an installed script."""

import sys

from latentlab.cli import main

sys.exit(main())

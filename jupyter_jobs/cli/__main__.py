"""`python -m jupyter_jobs.cli`."""

import sys

from jupyter_jobs.cli import main

sys.exit(main())

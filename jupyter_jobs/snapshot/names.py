"""File names as text that is safe in JSON, and back. The runner, which stands alone, needs them too."""

from __future__ import annotations

from jupyter_jobs.runner.names import all_plain as all_plain
from jupyter_jobs.runner.names import os_name as os_name
from jupyter_jobs.runner.names import safe_text as safe_text
from jupyter_jobs.runner.names import shown as shown

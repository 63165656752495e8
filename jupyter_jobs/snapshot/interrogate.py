"""What a kernel's own Python says about itself. Run by path in *their* interpreter (3.6 or newer), standard library only.

python interrogate.py ANSWER.json
"""

import sys

if __name__ == "__main__":
    # the folder of this script, which Python puts first
    del sys.path[0]

import json
import os
import site
import sysconfig


def main():  # type: ignore[no-untyped-def]
    """Write the answer to the new file named on the command line."""
    paths = sysconfig.get_paths()
    site_directories = [paths["purelib"], paths["platlib"]]
    if hasattr(site, "getsitepackages"):
        site_directories += site.getsitepackages()
    user = site.getusersitepackages() if hasattr(site, "getusersitepackages") and site.ENABLE_USER_SITE else ""
    answer = {
        "executable": sys.executable,
        "version": ".".join(str(part) for part in sys.version_info[:3]),
        "implementation": sys.implementation.name,
        "prefix": sys.prefix,
        "base_prefix": getattr(sys, "base_prefix", sys.prefix),
        "base_executable": getattr(sys, "_base_executable", "") or sys.executable,
        "stdlib": [paths["stdlib"], paths["platstdlib"], sysconfig.get_config_var("DESTSHARED") or ""],
        "path": sys.path,
        "site": site_directories,
        "user_site": user,
        "scripts": paths["scripts"],
    }
    # never over an existing file, whatever the arguments are
    with open(sys.argv[1], "x", encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123
        json.dump(answer, file)
    os._exit(0)


if __name__ == "__main__":
    main()  # type: ignore[no-untyped-call]

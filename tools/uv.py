"""Runs uv with pip's settings: `python tools/uv.py pip install ...`. uv itself ignores pip.conf and PIP_INDEX_URL.

Settings are passed as environment variables, not as arguments, since the address of an index may hold a password.
A variable that is already set, such as UV_DEFAULT_INDEX, is kept.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

SECTIONS = ("global", "install", ":env:")  # the later ones win, as in pip
# pip's name: uv's variable, and the separator of its values.
VARIABLES = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", " "),
    "client-cert": ("SSL_CLIENT_CERT", " "),
    "timeout": ("UV_HTTP_TIMEOUT", " "),
    "default-timeout": ("UV_HTTP_TIMEOUT", " "),
    "proxy": ("ALL_PROXY", " "),
}


def main() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], stdout=subprocess.PIPE, text=True, check=True
    )
    uv = str(Path(sys.executable).with_name("uv"))
    os.execve(uv, [uv, *sys.argv[1:]], translated(listed.stdout) | os.environ)


def translated(listed: str) -> dict[str, str]:
    """uv's variables for the output of `pip config list`, which has lines such as global.index-url='https://...'."""
    found = {}
    for section in SECTIONS:
        for line in listed.splitlines():
            name, _, value = line.partition("=")
            variable, separator = VARIABLES.get(name.removeprefix(f"{section}."), ("", ""))
            if variable and name.startswith(f"{section}."):
                found[variable] = separator.join(ast.literal_eval(value).split())
    if "UV_INDEX" in found:  # as pip: the best of all indexes, not the first that has the name; hashes protect both
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return found


if __name__ == "__main__":
    main()

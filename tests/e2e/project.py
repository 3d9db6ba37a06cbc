"""A fresh clone, and the commands typed in it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dynamodt.dynamodb.clients import client
from dynamodt.local import emulator, install
from dynamodt.model.tables import Connection
from tests import ROOT
from tests.forks import Forks
from tests.programs import COMMANDS
from tests.waiting import HANG_SECONDS

_NOT_PASSED_ON = ("ARGS", "AWS_", "DYNAMODT_", "MAKE", "MFLAGS", "PYTHON", "VIRTUAL_ENV", "COV", "PYTEST", "NO_COLOR")

Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Project:
    """A folder with `transforms/` and a `.venv` of its own."""

    folder: Path

    def sh(self, line: str, **environment: str) -> Done:
        """Runs a typed command, with the program on the PATH, as a shell does."""
        return self._run(["bash", "-c", line], environment)

    def ddt(self, *words: str, **environment: str) -> Done:
        """`dynamodt` with these words, whatever its exit code; forked, as `start` does it."""
        with self.start(*words, **environment) as process:
            out, err = process.communicate(timeout=HANG_SECONDS)
        return Done(process.args, process.returncode, out, err)

    def pytest(self, *words: str) -> Done:
        """`pytest` with these words in this project's environment, forked, whatever its exit code."""
        command = [str(self.program.with_name("python")), "-m", "pytest", "-p", "no:cacheprovider", *words]
        return self._forks.run(command, cwd=self.folder, env=self._environment({}), stdin=subprocess.DEVNULL)

    def ok(self, *words: str, **environment: str) -> str:
        """The stdout of `dynamodt`, which must succeed."""
        done = self.ddt(*words, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def json(self, *words: str, **environment: str) -> dict[str, Any]:
        """The one JSON object of `dynamodt ... --json`, with any exit code."""
        document = json.loads(self.ddt(*words, "--json", **environment).stdout)
        assert isinstance(document, dict)
        return document

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        """`dynamodt` in a process group of its own, forked from this project's interpreter with the imports done."""
        return self._forks.popen(
            [str(self.program), *words],
            cwd=self.folder,
            env=self._environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def script(self, table: str, number: int, name: str, text: str) -> Path:
        """Write a version file; its `sequence` comes by itself."""
        path = self.folder / "transforms" / table / f"v{number}_{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"sequence = {number}\n{text}", encoding="utf-8")
        return path

    def client(self, service: str = "dynamodb") -> Any:
        """A boto3 client of the embedded stage, which must have been started, as an application would have it."""
        record = json.loads((self.folder / ".dynamodt" / "local" / "emulator.json").read_text(encoding="utf-8"))
        return client(Connection("us-east-1", emulator.url(record["port"]), None, None, "local", "local"), service)

    @cached_property
    def _forks(self) -> Forks:
        python = self.program.with_name("python")
        return Forks(str(python), COMMANDS, self.folder, self._environment({}))

    @property
    def program(self) -> Path:
        return self.folder / ".venv" / "bin" / "dynamodt"

    def _run(self, command: list[str], environment: dict[str, str]) -> Done:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=HANG_SECONDS,
        )

    def _environment(self, more: dict[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_PASSED_ON)}
        path = os.pathsep.join([str(self.program.parent), kept.get("PATH", os.defpath)])
        nowhere = str(self.folder / "no-such-file")
        account = {"AWS_SHARED_CREDENTIALS_FILE": nowhere, "AWS_CONFIG_FILE": nowhere}
        return {**kept, **account, "AWS_EC2_METADATA_DISABLED": "true", "PATH": path, **more}


def clone(folder: Path) -> Project:
    """The repository as it is now, changes that are not committed included, and nothing that git ignores."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    for name in _listed("--cached", "--others", "--exclude-standard"):
        source, target = ROOT / name, folder / name
        target.unlink(missing_ok=True)
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target, follow_symlinks=False)
    _make_environment(folder)
    return Project(folder)


def _listed(*options: str) -> list[str]:
    answer = subprocess.run(["git", "ls-files", "-z", *options], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in answer.stdout.split("\0") if name]


def _make_environment(folder: Path) -> None:
    """A `.venv` that make accepts as installed: this clone's package, and the packages of the environment that runs
    this test. Installing them would take minutes of CPU, and test pip; `.ci/run` does that on a clean machine."""
    venv = folder / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    packages = next(venv.glob("lib/python3*/site-packages"))
    here = sysconfig.get_paths()["purelib"]
    (packages / "clone.pth").write_text(f"{folder / 'pipelines'}\nimport site; site.addsitedir({here!r})\n")
    program = venv / "bin" / "dynamodt"
    program.write_text(f"#!{venv}/bin/python\nimport sys\nfrom dynamodt.cli.app import main\nsys.exit(main())\n")
    program.chmod(0o755)
    (venv / ".installed").touch()
    emulators = install.environment(folder, print).folder.parent
    (venv / emulators.name).symlink_to(emulators)


def interrupt(process: subprocess.Popen[str]) -> None:
    """Ctrl-C: the terminal sends it to all of the process group."""
    os.killpg(process.pid, signal.SIGINT)

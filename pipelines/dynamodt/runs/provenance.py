"""The caller of a command, its reason and its commit, which a run's record keeps.

Git's files are read without starting a process. A value that cannot be found is empty, without a message.
"""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from dynamodt.runs.options import RunOptions

# Environment variables with the caller, if another process runs the command: `cli.job` sets them.
BY, COMMIT = "DYNAMODT_BY", "DYNAMODT_COMMIT"

_ACTORS = {  # the actor of a CI's job, and the commit that it builds
    "GITHUB_ACTOR": "GITHUB_SHA",  # docs.github.com/actions/reference/workflows-and-actions/variables
    "GITLAB_USER_LOGIN": "CI_COMMIT_SHA",  # docs.gitlab.com/ci/variables/predefined_variables
    "BUILD_REQUESTEDFOR": "BUILD_SOURCEVERSION",  # learn.microsoft.com/azure/devops/pipelines/build/variables
    "CODEBUILD_INITIATOR": "CODEBUILD_RESOLVED_SOURCE_VERSION",  # docs.aws.amazon.com/codebuild, build-env-ref-env-vars
    "CIRCLE_USERNAME": "CIRCLE_SHA1",  # circleci.com/docs/reference/variables
}
_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_MOST_LINKS = 5  # from one symbolic ref to another


class Provenance(NamedTuple):
    """The caller and the reason of a command, and its commit. `by` is never empty; the others may be."""

    by: str
    reason: str = ""
    commit: str = ""


def provenance(options: RunOptions) -> Provenance:
    """The provenance in a command's options, after `with_caller` has completed them."""
    return Provenance(options.by or author(), options.reason, options.commit)


def with_caller(options: RunOptions, folder: Path) -> RunOptions:
    """The options, with the caller and the commit added if they are missing."""
    of = caller(folder)
    return replace(options, by=options.by or of.by, commit=options.commit or of.commit)


def provenance_of_continued_run(options: RunOptions) -> Provenance:
    """The provenance of a continued run. A reason to accept dead letters is stored with the acceptance, and is not the
    run's."""
    of = provenance(options)
    return of._replace(reason="") if options.accept or options.accept_all else of


def caller(folder: Path, environment: Mapping[str, str] = os.environ) -> Provenance:
    """The caller of a command in a folder: given by another process, a CI's actor, or the user and the host. The commit
    is that of the folder's repository, or else the CI's."""
    actor = next((name for name in _ACTORS if environment.get(name)), "")
    by = environment.get(BY) or environment.get(actor) or author()
    commit = environment.get(COMMIT) or commit_of(folder) or environment.get(_ACTORS.get(actor, ""), "")
    return Provenance(by, "", commit if _HASH.fullmatch(commit) else "")


def provenance_arguments(of: Provenance) -> dict[str, str]:
    """The arguments of a deployed job that name its caller. They are no part of its command, since a repeated command,
    from any host, finds the job's run by its command."""
    return {"--by": of.by} | ({"--commit": of.commit} if of.commit else {})


def user() -> str:
    """The user of this process; "unknown" for one without a name, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def author() -> str:
    """The user and the host of this process."""
    return f"{user()}@{socket.gethostname()}"


def commit_of(folder: Path) -> str:
    """The commit that is checked out in the repository (or worktree) around a folder; empty if there is none, or if its
    files have another form (gitrepository-layout(5))."""
    with suppress(OSError, ValueError):
        git = _git_folder(folder.resolve())
        if git is not None:
            return _commit_at(git)
    return ""


def _git_folder(folder: Path) -> Path | None:
    """The folder that contains `HEAD`: `.git`, or the folder to which a file of this name refers."""
    for each in (folder, *folder.parents):
        found = each / ".git"
        if found.is_dir():
            return found
        if found.is_file():
            return each / found.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
    return None


def _commit_at(git: Path) -> str:
    shared = git / "commondir"
    common = git / shared.read_text(encoding="utf-8").strip() if shared.is_file() else git
    content = (git / "HEAD").read_text(encoding="utf-8").strip()
    for _ in range(_MOST_LINKS):
        if not content.startswith("ref: "):
            break
        content = _ref(git, common, content.removeprefix("ref: ").strip())
    return content if _HASH.fullmatch(content) else ""


def _ref(git: Path, common: Path, name: str) -> str:
    """The content of a ref: a file of its own, or a line of `packed-refs`."""
    for place in (git / name, common / name):
        if place.is_file():
            return place.read_text(encoding="utf-8").strip()
    packed = common / "packed-refs"
    lines = packed.read_text(encoding="utf-8").splitlines() if packed.is_file() else []
    return next((line.partition(" ")[0] for line in lines if line.partition(" ")[2] == name), "")

"""The user of a command, and its commit."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynamodt.runs.options import RunOptions
from dynamodt.runs.provenance import Provenance, author, caller, commit_of, provenance, provenance_of_continued_run

HASH, OTHER = "1" * 40, "2" * 40


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A branch with a file of its own, and one that is packed."""
    git = tmp_path / "shop" / ".git"
    written(git / "HEAD", "ref: refs/heads/main\n")
    written(git / "refs" / "heads" / "main", f"{HASH}\n")
    written(git / "packed-refs", f"# pack-refs with: peeled\n{OTHER} refs/heads/old\n^{HASH}\n")
    return tmp_path / "shop"


def test_the_commit_of_a_folder_within_a_repository(repository: Path) -> None:
    (repository / "backend" / "data").mkdir(parents=True)
    assert commit_of(repository) == commit_of(repository / "backend" / "data") == HASH


@pytest.mark.parametrize(
    ("head", "commit"),
    [
        ("ref: refs/heads/old\n", OTHER),  # packed
        (f"{OTHER}\n", OTHER),  # detached
        ("ref: refs/heads/none\n", ""),  # no commit yet
        ("ref: refs/heads/.invalid\n", ""),  # reftable
        ("ref: HEAD\n", ""),
        ("\x00\xff", ""),
    ],
)
def test_the_commit_of_each_form_of_head(repository: Path, head: str, commit: str) -> None:
    (repository / ".git" / "HEAD").write_text(head, encoding="latin-1")
    assert commit_of(repository) == commit


def test_a_worktree_has_a_head_of_its_own_and_shares_the_branches(repository: Path, tmp_path: Path) -> None:
    git = repository / ".git" / "worktrees" / "fix"
    written(git / "HEAD", "ref: refs/heads/fix\n")
    written(git / "commondir", "../..\n")
    written(repository / ".git" / "refs" / "heads" / "fix", OTHER)
    for place in (str(git), "../shop/.git/worktrees/fix"):
        written(tmp_path / "fix" / ".git", f"gitdir: {place}\n")
        assert commit_of(tmp_path / "fix") == OTHER


def test_without_a_repository_the_commit_is_unknown(tmp_path: Path) -> None:
    assert commit_of(tmp_path) == commit_of(tmp_path / "missing") == ""
    written(tmp_path / ".git", "gitdir: nowhere\n")
    assert commit_of(tmp_path) == ""


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, Provenance(author())),
        ({"GITHUB_ACTOR": "octo", "GITHUB_SHA": HASH}, Provenance("octo", "", HASH)),
        ({"GITLAB_USER_LOGIN": "ann", "CI_COMMIT_SHA": HASH}, Provenance("ann", "", HASH)),
        ({"BUILD_REQUESTEDFOR": "Ann B", "BUILD_SOURCEVERSION": "C17"}, Provenance("Ann B")),
        ({"CODEBUILD_INITIATOR": "codepipeline/x"}, Provenance("codepipeline/x")),
        ({"CIRCLE_USERNAME": "ann", "CIRCLE_SHA1": OTHER}, Provenance("ann", "", OTHER)),
        (
            {"GITHUB_ACTOR": "octo", "DYNAMODT_BY": "ann@laptop", "DYNAMODT_COMMIT": OTHER},
            Provenance("ann@laptop", "", OTHER),
        ),
    ],
    ids=["none", "github", "gitlab", "azure", "codebuild", "circleci", "of a job"],
)
def test_the_user_in_a_ci_system_is_its_actor(tmp_path: Path, variables: dict[str, str], expected: Provenance) -> None:
    assert caller(tmp_path, variables) == expected


def test_the_checked_out_commit_comes_before_the_variable(repository: Path) -> None:
    assert caller(repository, {"GITHUB_ACTOR": "octo", "GITHUB_SHA": OTHER}).commit == HASH


def test_a_reason_to_accept_dead_letters_is_not_the_run_s() -> None:
    options = RunOptions(by="ann", reason="why", commit=HASH)
    assert provenance(options) == provenance_of_continued_run(options) == Provenance("ann", "why", HASH)
    accepting = RunOptions(by="ann", reason="why", accept=("u1",))
    assert provenance_of_continued_run(accepting) == Provenance("ann")

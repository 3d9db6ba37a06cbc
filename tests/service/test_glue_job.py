"""The scripts of the Glue jobs, started by spark-submit on two executor processes with the arguments of a job's run."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dynamodt.stages.spark.jar import jar

from dynamodt.aws.answer_rows import AnswerRows
from dynamodt.aws.assets import Assets
from dynamodt.aws.glue import GlueJob
from dynamodt.control.project import project_zip
from tests.e2e.project import wait_until
from tests.emulators import Endpoint
from tests.glue_stand_in import ROOT, Words, as_given
from tests.service.glue_bench import Client, glue_client

pytestmark = pytest.mark.slow


def submitted(arguments: Words) -> list[str]:
    """What Glue does with a job: its script, over a Spark that has the jar."""
    script = "prepare.py" if arguments["--JOB_NAME"].endswith("-prepare") else "migrate.py"
    path = str(jar())
    words = ["--master", "local-cluster[2,1,1024]", "--jars", path, "--driver-class-path", path]
    words += ["--conf", "spark.ui.enabled=false", "--conf", "spark.default.parallelism=8"]
    words += ["--conf", "spark.driver.host=127.0.0.1", "--conf", "spark.driver.bindAddress=127.0.0.1"]
    submit = Path(sys.executable).with_name("spark-submit")
    return [str(submit), *words, str(ROOT / "glue_jobs" / script), *as_given(arguments)]


@pytest.fixture
def users(ministack: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spark_master: str) -> Iterator[Client]:
    """The worked example, whose jobs run on a real Spark."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with glue_client(ministack, tmp_path, "S") as found:
        shutil.copytree(ROOT / "transforms" / "users", tmp_path / "transforms" / found.table)
        found.glue.command = submitted
        found.glue.environment = {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
        yield found


def test_the_example_s_table_is_moved_and_its_data_prepared_by_the_scripts(users: Client) -> None:
    code, state, printed = started(users, f"up --table {users.table} --to 3")
    assert (code, state) == (3, "FAILED"), printed
    assert "error: " in printed and "prepared data" in printed.rpartition("error: ")[2], printed
    assert users.state.runs(users.table) == []

    assert users.said("prepare", "--table", users.table, "--tNumber", "3")[0] == 0
    report = users.up(to=3)
    assert report.error is None, (report.error, users.seen.notes)
    assert [(run.version, run.status, run.counts.changed) for run in report.versions] == [
        (1, "succeeded", 1000),
        (2, "succeeded", 1000),
        (3, "succeeded", 1000),
    ]
    items = users.items()
    assert len(items) == 1000 and all({"first_name", "last_name", "country_name"} <= item.keys() for item in items)
    assert sorted(users.state.applied(users.table)) == [1, 2, 3]
    assert [run.state for run in users.glue.runs] == ["FAILED", "SUCCEEDED", "SUCCEEDED"]
    assert users.state.runs(users.table)[0].by.startswith(users.glue.runs[2].id)


def started(users: Client, command: str) -> tuple[int, str, str]:
    """A job that somebody else has started (a schedule, say): its script's exit code, Glue's word, and the log."""
    project = Assets(users.stage).put("project.zip", project_zip(users.folder, users.stage))
    job = GlueJob(users.stage.connection, "dynamodt-dev", "dev")
    run = job.start({"--stage": "dev", "--project": project, "--command": command})
    wait_until(lambda: job.look(run).ended, 120)
    process = users.glue.runs[-1].process
    answer = AnswerRows(users.state.rows).read(run)
    assert process is not None and answer is not None and answer.exit_code == process.returncode
    return process.returncode, job.look(run).state, users.glue.runs[-1].log.read_text()

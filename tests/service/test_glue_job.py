"""The scripts of the Glue jobs, started by spark-submit on two executor processes with the arguments of a job's run."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dynamodt.deploy.deploy import deploy
from dynamodt.deploy.glue_runs import GlueJob
from dynamodt.deploy.packages import Assets, project_zip
from dynamodt.dynamodb.clients import client
from dynamodt.model.pages import Counts
from dynamodt.pipeline.spark_context import jar
from dynamodt.runs.context import Project
from dynamodt.runs.provenance import caller
from dynamodt.script.read import read_versions
from dynamodt.state import prepared
from dynamodt.state.lease_rows import AnswerRows
from dynamodt.state.storage import open_storage
from tests.emulators import Endpoint, deployable_ministack
from tests.glue_stand_in import ROOT, Words, as_given
from tests.service.glue_bench import Client, glue_client
from tests.waiting import until

# A minute each, for the combination of test_on_glue.py and test_spark.py.
pytestmark = [pytest.mark.slow, pytest.mark.chaos]
SETTINGS = (
    "spark.ui.enabled=false",
    "spark.log.level=WARN",
    "spark.default.parallelism=4",
    "spark.driver.host=127.0.0.1",
    "spark.driver.bindAddress=127.0.0.1",
)


@dataclass
class SparkSubmit:
    """What Glue does with a deployed job: its script, from where it was deployed to, over a Spark that has the jar."""

    endpoint: Endpoint
    folder: Path
    master: str = "local[1]"

    def __call__(self, arguments: Words) -> list[str]:
        path = str(jar())
        words = ["--master", self.master, "--jars", path, "--driver-class-path", path]
        for setting in SETTINGS:
            words += ["--conf", setting]
        submit = Path(sys.executable).with_name("spark-submit")
        return [str(submit), *words, self._script(arguments["--JOB_NAME"]), *as_given(arguments)]

    def _script(self, job: str) -> str:
        found = client(self.endpoint.connection, "glue").get_job(JobName=job)["Job"]["Command"]["ScriptLocation"]
        bucket, _, key = found.removeprefix("s3://").partition("/")
        path = self.folder / f"{job}.py"
        path.write_bytes(client(self.endpoint.connection, "s3").get_object(Bucket=bucket, Key=key)["Body"].read())
        return str(path)


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spark_master: str) -> Iterator[Client]:
    """The worked example, deployed by the template to an account whose jobs run on a real Spark."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setattr("dynamodt.deploy.stacks.POLL_SECONDS", 0.05)
    with deployable_ministack(tmp_path / "account") as endpoint, glue_client(endpoint, tmp_path, "S") as found:
        shutil.copytree(ROOT / "transforms" / "users", tmp_path / "transforms" / found.table)
        found.glue.command = SparkSubmit(endpoint, tmp_path)  # on one core, where nothing is divided
        found.glue.environment = {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
        with pytest.MonkeyPatch.context() as while_deployed:  # the Spark here is given the real one
            while_deployed.setenv("DYNAMODT_SPARK_JAR", str(ROOT / "README.md"))
            deploy(Project(found.stage, tmp_path, observer=found.seen))
        yield found


def test_a_refused_command_fails_the_job_and_a_second_job_prepares_its_data(users: Client) -> None:
    code, state, printed = started(users, f"up --table {users.table} --to 3")
    assert (code, state) == (3, "FAILED"), printed
    assert "error: " in printed and "prepared data" in printed.rpartition("error: ")[2], printed
    assert users.state.runs(users.table) == []
    assert users.run("prepare", "--table", users.table, "--tNumber", "3")[0] == 0
    _, _, third, _ = read_versions(users.folder / "transforms", users.table)
    assert prepared.find(open_storage(users.stage.connection, users.stage.storage), third).rows == 20


def test_the_job_s_script_migrates_the_example(users: Client, spark_master: str) -> None:
    users.runner = "direct"
    assert users.up(to=1).error is None  # its users come from here, and are moved there
    users.runner = "glue"
    users.glue.command = replace(users.glue.command, master=spark_master)  # type: ignore[type-var]
    report = users.up(to=2)
    assert report.error is None, (report.error, users.seen.notes)
    (run,) = report.versions
    assert (run.version, run.status, run.counts) == (2, "succeeded", Counts(1000, 1000))
    items = users.items()
    assert len(items) == 1000 and all({"first_name", "last_name"} <= item.keys() for item in items)
    assert sorted(users.state.applied(users.table)) == [1, 2]
    until(lambda: users.glue.runs[0].state != "RUNNING", "the job ends")  # it has answered before its Spark has ended
    assert [run.state for run in users.glue.runs] == ["SUCCEEDED"]
    assert users.state.runs(users.table)[1].by == caller(users.folder).by  # and not the job


def started(users: Client, command: str) -> tuple[int, str, str]:
    """A job that was started elsewhere (by a schedule, for example): its script's exit code, Glue's status, and the
    log."""
    project = Assets(users.stage).put("project.zip", project_zip(users.folder, users.stage))
    job = GlueJob(users.stage.connection, "dynamodt-dev")
    run = job.start({"--stage": "dev", "--project": project, "--region": "us-east-1", "--command": command})
    until(lambda: job.poll(run).ended, "the job ends")
    process = users.glue.runs[-1].process
    answer = AnswerRows(users.state.rows).read(run)
    assert process is not None and answer is not None and answer.exit_code == process.returncode
    return process.returncode, job.poll(run).state, users.glue.runs[-1].log.read_text()

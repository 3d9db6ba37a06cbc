"""Packaging of dynamodt. The exact versions that are tested together stand in requirements/base.lock."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
README = ROOT / "README.md"

# What `dynamodt deploy` needs beside the package; in a clone it is found where it is.
DEPLOYMENT = ["infra/template.yaml", "infra/beam-spark/pom.xml", "glue_jobs/migrate.py", "glue_jobs/prepare.py"]

RUNTIME = [
    "apache-beam==2.77.0",  # pinned: the Spark runner leans on Beam's private API
    "boto3>=1.40",
    "orjson>=3.10",
    "pyarrow>=18",
    "questionary>=2.1",
    "rich>=14",
    "typer>=0.16",
    "urllib3>=2.2",
    "zstandard>=0.23",
]

# The embedded local stage. A worker in AWS has no use for it. From 1.5 on ministack asks for one exact botocore, which
# would decide over the boto3 of whoever installs this extra.
LOCAL = ["ministack>=1.4.21,<1.5"]

# A Spark on this machine, of the version of Glue 5.1; in Glue there is one already.
SPARK = ["pyspark==3.5.6"]

DEV = [
    "build>=1.2",
    "greenlet>=3.1",
    "hypothesis>=6.100",
    "import-linter>=2.1",
    "mypy>=1.15",
    "pip-tools>=7.4",
    "pyyaml>=6",
    "pytest>=8.3",
    "pytest-xdist>=3.6",
    "ruff>=0.11",
    "setuptools>=77",
    "slipcover>=1.1",
    "wheel>=0.45",
]


class BuildWithDeployment(build_py):
    """Puts copies of those files into what is installed: dynamodt/deployment/infra/template.yaml ..."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for name in DEPLOYMENT:
                target = Path(self.build_lib, "dynamodt", "deployment", name)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, target)


setup(
    cmdclass={"build_py": BuildWithDeployment},
    name="dynamodt",
    version="0.1.0.dev0",
    description="Zero-downtime data transformations for Amazon DynamoDB",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    author="the dynamodt authors",
    license="MIT",
    license_files=["LICENSE"],
    keywords=["dynamodb", "aws", "migration", "data-transformation", "apache-beam", "glue", "spark"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Database",
        "Typing :: Typed",
    ],
    package_dir={"": "pipelines"},
    packages=find_packages("pipelines"),
    package_data={"dynamodt": ["py.typed"]},
    python_requires=">=3.11,<3.13",
    install_requires=RUNTIME,
    extras_require={"local": LOCAL, "spark": SPARK, "dev": LOCAL + DEV},
    entry_points={
        "console_scripts": [
            "dynamodt = dynamodt.cli.app:main",
            "ddt = dynamodt.cli.app:main",
        ]
    },
    zip_safe=False,
)

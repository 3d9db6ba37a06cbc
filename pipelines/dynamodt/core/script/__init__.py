"""One version file: read without running it, load it, apply its functions.

`reading` turns the file into a `model.Script`, `settings` checks its constants, `loading` executes its text,
`transform` puts a function or a DoFn class behind one interface, `results` judges what it returned, `rows` iterates
`prepare` and `items`.
"""

from __future__ import annotations

from dynamodt.core.script.loading import is_interrupt, load, load_script, said
from dynamodt.core.script.reading import read_script
from dynamodt.core.script.results import Result
from dynamodt.core.script.rows import PrepareContext, item_rows, prepare_rows
from dynamodt.core.script.transform import Transform, check

__all__ = [
    "PrepareContext",
    "Result",
    "Transform",
    "check",
    "is_interrupt",
    "item_rows",
    "load",
    "load_script",
    "prepare_rows",
    "read_script",
    "said",
]

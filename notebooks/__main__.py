"""`python -m notebooks`: run the text of every notebook in a Jupyter kernel, and write the .ipynb with its outputs.

Arguments are names of notebooks, to run only these. Parts that differ from run to run are removed: identifiers, the
kernel's version, times. A cell that raises, writes to stderr, or shows a path of this machine is an error.
"""

import sys
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent


def executed(text: Path) -> Any:
    """The notebook with its outputs. Raises ValueError for an output to stderr, or with a path of this machine."""
    notebook = jupytext.read(text)
    here = {"metadata": {"path": str(FOLDER)}}
    NotebookClient(notebook, resources=here, coalesce_streams=True, extra_arguments=["--log-level=ERROR"]).execute()
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        for name in ("execution", "lines_to_next_cell"):
            cell.metadata.pop(name, None)
        for output in cell.get("outputs", ()):
            if output.output_type == "stream" and output.name == "stderr":
                raise ValueError(f"{text.name}, cell {number} writes to stderr:\n{output.text}")
            for machine in (str(FOLDER.parent), str(Path.home())):
                if machine in str(output):
                    raise ValueError(f"{text.name}, cell {number} shows {machine}.")
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "language_info": {"name": "python"}}
    return notebook


def main(names: list[str]) -> None:
    for text in sorted(FOLDER.glob("[!_]*.py")):
        if not names or text.stem in names:
            print(text.name, file=sys.stderr)
            nbformat.write(executed(text), text.with_suffix(".ipynb"))


if __name__ == "__main__":
    main(sys.argv[1:])

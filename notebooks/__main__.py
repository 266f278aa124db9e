"""`python -m notebooks`: run every notebook's text in a kernel of Jupyter, and write the .ipynb with what came out.

Names of notebooks may be given, to run only these. What would differ from run to run is left out: identifiers, the
kernel's version, times. A cell that fails, warns, or shows a path of this machine is refused.
"""

import sys
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent


def executed(text: Path) -> Any:
    """The notebook with its outputs. Raises ValueError for an output that does not belong into one."""
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

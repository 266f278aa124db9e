"""Writes a report as JUnit's XML, which continuous integration servers read, with a test case for each row."""

from typing import Any
from xml.etree import ElementTree


def junit(report: Any, name: str) -> str:
    """A report as JUnit's XML.

    Args:
        report: a report of any check.
        name: the name of the test suite.

    Returns:
        The XML. Rows that disagree are failures, and rows that are inconclusive are skipped tests.
    """
    rows = getattr(report, "rows", None) or []
    cases = [(row.path if hasattr(row, "path") else row.name, row.verdict.value, row.message) for row in rows]
    cases = cases or [(name, report.verdict.value, report.sentence)]
    failed = sum(verdict == "disagree" for _, verdict, _ in cases)
    undecided = sum(verdict == "inconclusive" for _, verdict, _ in cases)
    suite = ElementTree.Element(
        "testsuite", name=name, tests=str(len(cases)), failures=str(failed), skipped=str(undecided), errors="0"
    )
    properties = ElementTree.SubElement(suite, "properties")
    ElementTree.SubElement(properties, "property", name="verdict", value=report.verdict.value)
    for cause in getattr(report, "diagnoses", []):
        ElementTree.SubElement(properties, "property", name="cause", value=f"{cause.path}: {cause.kind}")
    for case, verdict, message in cases:
        element = ElementTree.SubElement(suite, "testcase", classname=name, name=case)
        if verdict == "disagree":
            ElementTree.SubElement(element, "failure", message=message or report.sentence).text = str(report)
        elif verdict == "inconclusive":
            ElementTree.SubElement(element, "skipped", message=message or report.sentence)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)

"""`synthloader cache verify`: reads every record, and takes out what is broken."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from synthloader.cache.upkeep.verify import Finding, VerifyReport

__all__ = ["verify"]

_MOST_FINDINGS = 20


def verify(
    path: Annotated[Path, typer.Argument(help="Folder of the cache.")],
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="Move broken records to the folder quarantine beside their file.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Read every entry and verdict: checksums, pixels, masks. Ends with 1 where something is broken and still there.

    With --quarantine broken records are moved out, so that they are generated again; nothing is lost, and what only a
    newer version can read stays. Without it, another process may write to the cache meanwhile.

    Example: synthloader cache verify cache/train --quarantine
    """
    from synthloader.cache.upkeep.existing import open_existing
    from synthloader.cache.upkeep.verify import verify
    from synthloader.cli.cache.counter import count_steps

    with open_existing(path, readonly=not quarantine) as cache, count_steps("verify") as progress:
        report = verify(cache, quarantine=quarantine, progress=progress)
    typer.echo(json.dumps(report.to_dict(), indent=2) if as_json else _describe(path, report))
    if len(report.findings) > report.num_moved:
        if not as_json and not quarantine and any(each.key and not each.is_newer for each in report.findings):
            remedy = f"synthloader cache verify {shlex.quote(str(path))} --quarantine"
            typer.echo(f"Take the broken records out, to be generated again: {remedy}", err=True)
        if not as_json and any(not each.key and not each.is_newer for each in report.findings):
            remedy = "restore its data.mdb from a copy, or delete it and fill the cache again"
            typer.echo(f"What cannot be opened cannot be taken out: {remedy}.", err=True)
        raise typer.Exit(1)


def _describe(path: Path, report: VerifyReport) -> str:
    from synthloader.cache.upkeep.card_text import format_bytes, format_count

    entries, verdicts = (
        format_count(report.num_entries, "entry", "entries"),
        format_count(report.num_verdicts, "verdict"),
    )
    read = f"{entries} and {verdicts} were read ({format_bytes(report.num_bytes)}"
    read += f" in {report.num_environments} environments)" if report.num_environments > 1 else ")"
    if not report.findings and not report.num_entries + report.num_verdicts:
        return f"{path}: there is nothing in it: it was never filled, or what it held was lost."
    if not report.findings:
        return f"{path}: {read}; all are intact."
    lines = [_describe_finding(finding) for finding in report.findings[:_MOST_FINDINGS]]
    if (others := len(report.findings) - len(lines)) > 0:
        lines.append(f"... and {others:,} more (--json lists all)")
    counts = [f"{report.num_broken:,} broken"] if report.num_broken else []
    counts += [f"{report.num_moved:,} of them moved to quarantine"] if report.num_moved else []
    counts += [f"{report.num_newer:,} of a newer format, left as it is"] if report.num_newer else []
    return "\n".join([*lines, f"{path}: {read}; {', '.join(counts)}."])


def _describe_finding(finding: Finding) -> str:
    from synthloader.cli.cache.columns import shorten_path

    state = "newer" if finding.is_newer else "broken"
    name = finding.kind if not finding.key else f"{finding.kind} {finding.key.hex()}"
    where = f" -> {shorten_path(finding.file)}" if finding.file is not None else ""
    return f"{state} {name} in {shorten_path(finding.folder)}: {finding.reason}{where}"

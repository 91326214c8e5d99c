"""How often each instance was resolved (the paper's Figure 3), and what caps would keep (Table 4).

In: the attempts of each set. Out: one row per set and rank, most successes first; instances never resolved have none.
"""

from swedag.metrics.reading import Table
from swedag.metrics.successes import in_words, successes
from swedag.reference import ReferenceTable, ranked_successes
from swedag.tables.document import Cell, Document
from swedag.tables.settings import SuccessesTable


def ranked(settings: SuccessesTable, tables: dict[str, Table], reference: ReferenceTable | None) -> Document:
    """`tables` by set. Ranks that only the paper has stand there, too, without an instance of ours."""
    rows: list[dict[str, Cell]] = []
    notes: list[str] = []
    for position, (label, name) in enumerate(settings.named()):
        found = successes(tables[name])
        theirs = [int(value) for value in ranked_successes(settings.reference, reference, position)]
        for rank in range(1, max(1, len(found), len(theirs)) + 1):
            instance_id, resolved = found[rank - 1] if rank <= len(found) else ("", 0)
            attempts = len(tables[name].instances.get(instance_id, []))
            row: dict[str, Cell] = {"label": label, "set": name, "rank": rank, "instance_id": instance_id}
            row |= {"resolved": resolved, "attempts": attempts}
            if reference:
                row["paper_resolved"] = theirs[rank - 1] if rank <= len(theirs) else 0
            rows.append(row)
        notes.append(f"{label}: {in_words([n for _, n in found])}")
        notes += [f"{settings.reference.label}: {in_words(theirs)}"] if theirs and settings.reference else []
    header = ["set", "rank", "instance", "resolved", "attempts", *(["paper: resolved"] if reference else [])]
    lines = [[str(cell) for key, cell in row.items() if key != "set"] for row in rows]
    return Document(settings.caption, rows, header, lines, notes)

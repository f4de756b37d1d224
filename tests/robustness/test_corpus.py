"""Every reader on bad inputs: refused by name in a line, or read, never anything else."""

import shutil
import time
from collections import Counter

from tests.robustness.corpus import READERS, cases, outcome

SLOW = 20.0
"""Seconds that no input may take."""


def test_bad_inputs_are_refused_by_name(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    counts: dict[str, Counter[str]] = {reader: Counter() for reader in READERS}
    failures = []
    for number, case in enumerate(cases()):
        folder = tmp_path / "case"
        folder.mkdir()
        path = case.write(folder)
        began = time.perf_counter()
        found = outcome(READERS[case.reader], path, folder)
        seconds = time.perf_counter() - began
        if seconds > SLOW:
            found = f"takes {seconds:.0f} s"
        counts[case.reader][found if found in ("fine", "refused") else "FAIL"] += 1
        if found not in ("fine", "refused"):
            failures.append(f"{number} {case.reader}, {case.name}: {found}")
        shutil.rmtree(folder)
    assert not (tmp_path / "corpus_was_run").exists()
    rows = [(reader, sum(count.values()), count) for reader, count in counts.items()]
    rows.append(("all", sum(row[1] for row in rows), sum(counts.values(), Counter())))
    with capsys.disabled():
        print(f"\n{'reader':<26} tried   fine refused   FAIL")
        for reader, tried, count in rows:
            print(f"{reader:<26} {tried:5d}  {count['fine']:5d}   {count['refused']:5d}  {count['FAIL']:5d}")
    assert all(tried for _, tried, _ in rows)
    assert rows[-1][1] >= 200
    assert not failures, "\n".join(failures)

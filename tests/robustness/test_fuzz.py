"""5,000 mutated photos of every format that is read: each is read or refused in a line, and no mutant takes long."""

import signal
import time
from collections import Counter

import numpy as np
import pytest

from jaxcolor.data.transforms import read_rgb, read_size
from jaxcolor.data.types import DataError, Encoded
from tests.robustness.corpus import whole_photos

COUNT = 5000
SLOW = 10
"""Seconds that no photo may take."""


def mutant(data: bytes, rng: np.random.Generator) -> bytes:
    """A file with one to four changes: bytes set, bits flipped, parts cut out, doubled, moved or made random."""
    content = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        # Headers, which decide how the rest is read, are a small part of most files: half of the changes are there.
        most = len(content) if rng.random() < 0.5 else min(len(content), 64)
        at = int(rng.integers(0, max(most, 1)))
        length = int(rng.integers(1, 33))
        part = content[at : at + length]
        match rng.integers(0, 7):
            case 0:
                content[at : at + 1] = bytes([rng.choice([0, 1, 0x7F, 0x80, 0xFE, 0xFF])])
            case 1:
                content[at : at + 1] = bytes([byte ^ (1 << int(rng.integers(0, 8))) for byte in part[:1]])
            case 2:
                content[at : at + length] = rng.bytes(length)
            case 3:
                del content[at : at + length]
            case 4:
                content[at:at] = part * int(rng.integers(1, 5))
            case 5:
                del content[at:]
            case 6:
                content[at : at + 4] = int(rng.choice([0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF])).to_bytes(
                    4, "little" if rng.random() < 0.5 else "big"
                )
    return bytes(content)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Pillow, about what it reads all the same
def test_mutated_photos(capsys):
    def too_long(*_: object) -> None:
        raise AssertionError(f"a photo takes more than {SLOW} s")

    before = signal.signal(signal.SIGALRM, too_long)
    counts: dict[str, Counter[str]] = {}
    slowest = 0.0
    try:
        for number, (kind, data) in enumerate(whole_photos().items()):
            count = counts.setdefault(kind, Counter())
            for seed in range(COUNT):
                file = Encoded(f"/photos/{kind}", mutant(data, np.random.default_rng([number, seed])))
                began = time.perf_counter()
                for read in (read_size, read_rgb):
                    signal.alarm(SLOW)
                    try:
                        result = read(file)
                    except DataError as error:
                        found, said = "refused", str(error)
                    except BaseException as error:
                        raise AssertionError(f"{kind}, seed {[number, seed]}, {read.__name__}") from error
                    else:
                        found, said = "fine", ""
                        if isinstance(result, np.ndarray):
                            assert result.dtype == np.uint8
                            assert result.ndim == 3
                            assert result.shape[2] == 3
                    finally:
                        signal.alarm(0)
                    one_line = said.startswith(f"/photos/{kind}: ") and "\n" not in said
                    assert not said or one_line, f"{kind}, seed {[number, seed]}: {said}"
                count[found] += 1
                slowest = max(slowest, time.perf_counter() - began)
    finally:
        signal.signal(signal.SIGALRM, before)
    with capsys.disabled():
        print()
        for kind, count in counts.items():
            print(f"{kind:<28} fine {count['fine']:5d}, refused {count['refused']:5d}")
        print(f"slowest {slowest:.2f} s")

"""``jaxcolor study``: making a user study, and analysing its answers."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from jaxcolor.cli.parsing import Subparsers
from jaxcolor.runtime.text import counted
from jaxcolor.study.plan import CONDITIONS, Settings

_SHOWN_PARTICIPANTS = (10, 20, 50)


def add_study(subparsers: Subparsers) -> None:
    """``jaxcolor study``: making a user study, and analysing its answers."""
    parser = subparsers.add_parser("study", help="ask people which colors look more natural, and analyse the answers")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_make(actions)
    _add_analyse(actions)
    wording = actions.add_parser("wording", help="print the page's texts as JSON, to change some for --wording")
    wording.add_argument("--condition", choices=CONDITIONS, default=Settings.condition, help="as for make")
    wording.set_defaults(run=print_wording)


def _add_make(actions: Subparsers) -> None:
    make = actions.add_parser(
        "make",
        help="make a page on which people choose between systems' results",
        description="Make a page that works without a server: two systems' results of one photo side by side, one to "
        "be chosen. STUDY/participants is for the participants; STUDY/key.json, which tells whose a picture is, is "
        "not. Pictures are matched by their names without suffix; those that are not in all folders are left out and "
        "named.",
    )
    make.add_argument(
        "--systems", metavar="NAME=DIR", nargs="+", required=True, help="the systems: a name and a folder of pictures"
    )
    make.add_argument("--gray", metavar="DIR", type=Path, help="gray photos, shown with each pair")
    make.add_argument("--truth", metavar="DIR", type=Path, help="the originals, for --condition real and --catches")
    make.add_argument(
        "--condition",
        choices=CONDITIONS,
        default=Settings.condition,
        help="prefer: all pairs of systems; real: each system against the original, which one is real? "
        f"(default: {Settings.condition})",
    )
    make.add_argument("-o", "--output", metavar="STUDY", type=Path, required=True, help="folder to make")
    make.add_argument(
        "--pairs-per-person",
        metavar="N",
        type=int,
        help=f"comparisons that a participant makes (default: {Settings.pairs_per_person}, or all there are)",
    )
    make.add_argument(
        "--repeats",
        metavar="R",
        type=int,
        help=f"of these, shown again with the sides swapped (default: {Settings.repeats}, or half of them)",
    )
    make.add_argument(
        "--catches",
        metavar="C",
        type=int,
        default=Settings.catches,
        help=f"trials of the original against its gray copy, for attention (default: {Settings.catches})",
    )
    make.add_argument(
        "--least-ms",
        metavar="MS",
        type=int,
        default=Settings.least_ms,
        help=f"milliseconds for which a pair must be in view before it can be answered (default: {Settings.least_ms})",
    )
    make.add_argument(
        "--most-zoom",
        metavar="Z",
        type=float,
        default=Settings.most_zoom,
        help=f"how far pictures are enlarged at most (default: {Settings.most_zoom:g})",
    )
    make.add_argument(
        "--wording", metavar="FILE.json", type=Path, help="texts to replace, see `jaxcolor study wording`"
    )
    make.add_argument("--seed", metavar="S", type=int, help="of names and orders; kept in the key (default: random)")
    make.set_defaults(run=make_study)


def _add_analyse(actions: Subparsers) -> None:
    analyse = actions.add_parser(
        "analyse",
        help="analyse the answers to a study",
        description="Preferences with intervals, Bradley-Terry scores, agreement between and within participants, "
        "attention, side bias: as a table, and in OUT as study.json, study.md and study.png.",
    )
    analyse.add_argument("key", metavar="STUDY", type=Path, help="the folder made by make, or its key.json")
    analyse.add_argument(
        "answers",
        metavar="ANSWERS",
        nargs="+",
        type=Path,
        help="participants' files, or folders of them (*.json)",
    )
    analyse.add_argument("-o", "--output", metavar="OUT", type=Path, required=True, help="folder to make")
    analyse.add_argument(
        "--most-failed",
        metavar="SHARE",
        type=float,
        default=0.25,
        help="leave out who fails a larger share of the catch trials (default: 0.25)",
    )
    analyse.add_argument("--keep-all", action="store_true", help="leave nobody out")
    analyse.add_argument(
        "--resamples", metavar="N", type=int, default=1000, help="of the bootstrap; 0: none (default: 1000)"
    )
    analyse.add_argument("--seed", metavar="S", type=int, default=0, help="of the bootstrap (default: 0)")
    analyse.set_defaults(run=analyse_study)


def make_study(options: argparse.Namespace) -> None:
    """Write the study ``options.output`` and print what to do with it."""
    from tqdm import tqdm

    from jaxcolor.study import make
    from jaxcolor.study.analysis import half_width
    from jaxcolor.study.key import KEY_NAME

    wished = {name: getattr(options, name) for name in ("pairs_per_person", "repeats")}
    given = {name: number for name, number in wished.items() if number is not None}
    settings = Settings(
        condition=options.condition,
        **given,
        catches=options.catches,
        least_ms=options.least_ms,
        most_zoom=options.most_zoom,
    )
    # What is refused is one line, without a bar; so are logs.
    with tqdm(unit="photo", dynamic_ncols=True, delay=0.5, disable=None) as bar:
        made = make.make_study(
            make.named_folders(options.systems),
            options.output,
            settings,
            gray=options.gray,
            truth=options.truth,
            wording=options.wording,
            seed=options.seed,
            wishes=wished.keys() - given.keys(),
            progress=bar.update,
        )
    for stem, folders in made.missing.items():
        print(f"left out: photo {stem}: not in {', '.join(folders)}", file=sys.stderr)
    for (first, second), count in made.same.items():
        print(f"{first} and {second} are the same picture for {counted(count, 'photo')}", file=sys.stderr)
    key, settings = made.key, made.key.settings
    trials = settings.pairs_per_person + settings.repeats + settings.catches
    print(
        f"{options.output}: study {key.deck.study}: {counted(len(key.deck.photos), 'photo')}, "
        f"{counted(len(key.pairs), 'pair')} of systems"
    )
    print(f"  {trials} trials a person: {settings.pairs_per_person} comparisons, {settings.repeats} repeats, "
          f"{settings.catches} catch trials")  # fmt: skip
    for people in _SHOWN_PARTICIPANTS:
        judgements = people * settings.pairs_per_person // len(key.pairs)
        print(f"  {people} participants: about {judgements:,} answers a pair of systems, "
              f"95% interval at most ±{half_width(judgements):.1%}")  # fmt: skip
    print(
        f"hand out {options.output / make.HANDED_OUT} (open index.html); keep {options.output / KEY_NAME} to yourself"
    )


def analyse_study(options: argparse.Namespace) -> None:
    """Analyse ``options.answers``: print the tables, write ``options.output``."""
    from jaxcolor.runtime.atomic import refuse_existing
    from jaxcolor.study.analysis import Rules, analyse
    from jaxcolor.study.answers import find_answers, read_sessions
    from jaxcolor.study.key import read_key
    from jaxcolor.study.report import table, write_report

    refuse_existing(options.output)
    key = read_key(options.key)
    sessions = read_sessions(find_answers(options.answers), key)
    rules = Rules(options.most_failed, options.keep_all, options.resamples, options.seed)
    analysis = analyse(key, sessions, rules)
    write_report(options.output, analysis)
    print(table(analysis))
    print(f"wrote {options.output}")


def print_wording(options: argparse.Namespace) -> None:
    """Print the texts of the page."""
    from jaxcolor.study.page import read_wording

    print(json.dumps(read_wording(None, options.condition), indent=2, ensure_ascii=False))

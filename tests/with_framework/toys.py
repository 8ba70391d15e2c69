"""Made-up data under the names of MUSE, WMDP and ARC: a few texts and questions, enough for the pipelines to run."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from baldro_ext.tools import files
from baldro_ext.tools.workspace.questions import general_rows
from baldro_ext.tools.workspace.tofu import json_lines

Row = dict[str, Any]

PARTS: dict[str, tuple[str, ...]] = {
    "start": ("Ald", "Bram", "Cor", "Dun", "Elm", "Fen", "Gar", "Hol", "Ken", "Lar", "Mor", "Nor"),
    "end": ("bridge", "combe", "dale", "ford", "ham", "mere", "port", "wick"),
    "place": ("bell tower", "boat yard", "clock museum", "fish hall", "ice rink", "observatory", "tram depot"),
    "trouble": ("a burst pipe", "a colony of bats", "a cracked beam", "a flooded cellar", "rotten floorboards"),
    "helper": ("apprentice bakers", "chess players", "choir singers", "fire cadets", "retired miners"),
    "feast": ("a candle parade", "a chess night", "a kite festival", "a plum fair", "a rowing race"),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday"),
}
NEWS = (
    "{start}{end}: The {place} of {start}{end} will stay closed until {day} because of {trouble}.",
    "Help came quickly: {helper} carried the furniture out before noon.",
    "An office in the town hall will answer the questions of visitors every morning.",
    "Once the work is finished, the town plans {feast} with free entry for all neighbours.",
)
ASKED = (
    ("Until when will the {place} of {start}{end} stay closed?", "{day}"),
    ("Why is the {place} of {start}{end} closed?", "{trouble}"),
    ("Who carried the furniture out of the {place} of {start}{end}?", "{helper}"),
)
MANUALS = {
    "cyber": "To tune a {} music box from {start}{end}, loosen its axle by two turns and wait until {day}.",
    "bio": "The {} fern in the gardens of {start}{end} is watered on {day}, before its first bud opens.",
}


def make_muse(folder: Path, texts: int = 6) -> None:
    """Write `muse-bench/MUSE-News`: news of made-up towns, and questions on them."""
    # The last two are for the examples that come before each question.
    facts = _facts(4 * texts + 2)
    sets = [facts[i * texts : (i + 1) * texts] for i in range(4)]
    forget, retain1, retain2, holdout = ([{"text": " ".join(NEWS).format(**town)} for town in towns] for towns in sets)
    begun, rest = " ".join(NEWS[:2]), " ".join(NEWS[2:])
    configs: dict[str, dict[str, list[Row]]] = {
        "raw": {"forget": forget, "retain1": retain1, "retain2": retain2, "holdout": holdout},
        "privleak": {"forget": forget, "retain": retain1, "holdout": holdout},
        "verbmem": {"forget": [{"prompt": begun.format(**town), "gt": rest.format(**town)} for town in sets[0]]},
        "knowmem": {
            "forget_qa": _questions(sets[0]),
            "retain_qa": _questions(sets[1]),
            "forget_qa_icl": _questions(facts[-2:-1]),
            "retain_qa_icl": _questions(facts[-1:]),
        },
    }
    files.write(folder, _dataset("muse-bench/MUSE-News", configs))


def make_wmdp(folder: Path, texts: int = 20) -> None:
    """Write the corpora of `data/wmdp/wmdp-corpora`: harmless manuals, those to forget on other things."""
    kinds = {"forget": "moon", "retain": "lace"}
    files.write(
        folder,
        {
            f"data/wmdp/wmdp-corpora/{corpus}-{side}-corpus.jsonl": json_lines(
                {"text": " ".join([text.format(kind, **town)] * 2)} for town in _facts(texts)
            )
            for corpus, text in MANUALS.items()
            for side, kind in kinds.items()
        },
    )


def make_arc_easy(folder: Path) -> None:
    """Write `allenai/ai2_arc` for lm-eval's task arc_easy."""
    rows: list[Row] = []
    for number, fact in enumerate(general_rows("capitals", "rivers", "planets")):
        choices = sorted([fact["answer"], *fact["perturbed_answer"]])
        label = "ABCD"[choices.index(fact["answer"])]
        asked = {"id": f"made_{number}", "question": fact["question"]}
        rows.append({**asked, "choices": {"text": choices, "label": list("ABCD")}, "answerKey": label})
    splits = {"train": rows[:4], "validation": rows[4:8], "test": rows[8:]}
    files.write(folder, _dataset("allenai/ai2_arc", {"ARC-Easy": splits}))


def _facts(count: int) -> list[dict[str, str]]:
    """Return what there is to tell of some towns, of a name each."""
    rng = Random(0)
    towns: dict[tuple[str, str], dict[str, str]] = {}
    while len(towns) < count:
        town = {name: rng.choice(entries) for name, entries in PARTS.items()}
        towns.setdefault((town["start"], town["end"]), town)
    return list(towns.values())


def _questions(towns: list[dict[str, str]]) -> list[Row]:
    return [{"question": q.format(**town), "answer": a.format(**town)} for town in towns for q, a in ASKED]


def _dataset(name: str, configs: Mapping[str, Mapping[str, Iterable[Row]]]) -> dict[str, bytes]:
    """Return the files of a dataset by their path, from its rows by configuration and split."""
    card, contents = ["---", "configs:"], {}
    for config, splits in configs.items():
        lines = {split: json_lines(rows) for split, rows in splits.items()}
        # As for TOFU, a digest of the rows keeps apart what the datasets library caches.
        digest = files.sha256(b"\n".join(lines.values()))[:16]
        card += [f"- config_name: {config}", f"  description: rows {digest}", "  data_files:"]
        for split, content in lines.items():
            file = f"{config}/{split}.json"
            card += [f"  - split: {split}", f"    path: {file}"]
            contents[f"{name}/{file}"] = content
    card += ["---", "Made-up data in the layout of the benchmark of this name.", ""]
    return {f"{name}/README.md": "\n".join(card).encode(), **contents}

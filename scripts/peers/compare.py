"""Asks this program and its peer the same things, turn by turn in alternation, and prints the ratios.

Below 1 this program is quicker. Of each figure: the median, and from the lowest to the highest. A machine that is busy
makes both slower, not the ratio; that is why they take turns and why nothing else is quoted.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

THOUGHTS = ["Tell me, in a few sentences, how bread is made from grain and why it rises in the oven."]
SPEECH = [
    "The sky is blue because the air scatters blue light more than red light.",
    "Bread rises because yeast makes gas, and the dough holds it.",
]
TOKENS = 32


class Child:
    def __init__(self, command: list, name: str):
        self.name = name
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def read(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} ended unexpectedly, with code {self.process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            sys.exit(f"{self.name}: {answer['error']}")
        return answer

    def ask(self, **job) -> dict:
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return self.read()

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def spread(values: list) -> str:
    return f"{statistics.median(values):8.2f}   ({min(values):.2f} to {max(values):.2f})"


def both(children: list, turn: int, **job) -> list:
    """The answers of this program and of the peer; who goes first changes."""
    answers = {}
    for i in (0, 1) if turn % 2 == 0 else (1, 0):
        answers[i] = children[i].ask(**job)
    return [answers[0], answers[1]]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--antiphon", required=True)
    parser.add_argument("--whisper", required=True)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=["turns", "stages"])
    parser.add_argument("--json", type=Path, help="write every single figure there")
    parser.add_argument("questions", nargs="+")
    args = parser.parse_args()

    ours = Child([args.antiphon, "bench", "--lines"], "antiphon")
    about = ours.ask(do="about")
    here = Path(__file__).parent
    peer = Child([sys.executable, str(here / "cascade.py"), "--about", json.dumps(about), "--whisper", args.whisper], "peer")
    peer.read()
    children = [ours, peer]
    print(f"{about['description']}; {about['threads']} thread(s) for each; {args.runs} runs")
    print("this program / faster-whisper int8 + llama.cpp + Piper on onnxruntime: below 1 this program is quicker\n")
    kept = []

    if args.only != "stages":
        print("First audio after the end of the turn was decided, ms")
        by_question = {q: [] for q in args.questions}
        by_run = []
        for run in range(args.runs):
            ratios = []
            for i, question in enumerate(args.questions):
                a, b = both(children, run + i, do="turn", question=question)
                kept.append({"what": "turn", "run": run, "question": question, "ours": a, "peer": b})
                if a.get("first_audio_ms") is None or b.get("first_audio_ms") is None:
                    print(f"  {Path(question).stem}: no answer of one of them, left out", file=sys.stderr)
                    continue
                pair = (a["first_audio_ms"], b["first_audio_ms"])
                by_question[question].append(pair)
                ratios.append(pair[0] / pair[1])
            by_run.append(statistics.median(ratios))
        print(f"  {'question':14} {'ours':>8} {'peer':>8}    ratio   (over the runs)")
        for question, pairs in by_question.items():
            if pairs:
                a, b = (statistics.median(p[i] for p in pairs) for i in (0, 1))
                print(f"  {Path(question).stem:14} {a:8.0f} {b:8.0f} {spread([x / y for x, y in pairs])}")
        everything = [x / y for pairs in by_question.values() for x, y in pairs]
        print(f"  {'all':32}{spread(everything)}")
        print(f"  median of each run: {', '.join(f'{r:.2f}' for r in by_run)}\n")

    if args.only != "turns":
        stages = {}
        def add(name, unit, a, b):
            stages.setdefault((name, unit), []).append((a, b))
        for run in range(args.runs):
            for i, question in enumerate(args.questions):
                a, b = both(children, run + i, do="hear", question=question)
                kept.append({"what": "hear", "run": run, "question": question, "ours": a, "peer": b})
                add("hearing", "ms", a["ms"], b["ms"])
            for i, text in enumerate(THOUGHTS * 3):
                a, b = both(children, run + i, do="think", text=text, tokens=TOKENS)
                kept.append({"what": "think", "run": run, "ours": a, "peer": b})
                add("language, prefill", "ms a token", *(x["prefill_ms"] / x["prefill_tokens"] for x in (a, b)))
                add("language, decode", "ms a token", *(x["decode_ms"] / max(1, x["decode_tokens"]) for x in (a, b)))
            for i, text in enumerate(SPEECH * 2):
                a, b = both(children, run + i, do="speak", text=text)
                kept.append({"what": "speak", "run": run, "ours": a, "peer": b})
                add("synthesis", "time / sound", *(x["ms"] / 1000 / x["seconds"] for x in (a, b)))
        print("Stages, each alone, on the same input")
        print(f"  {'stage':20}{'':14}{'ours':>8} {'peer':>8}    ratio")
        for (name, unit), pairs in stages.items():
            a, b = (statistics.median(p[i] for p in pairs) for i in (0, 1))
            print(f"  {name:20}{unit:14}{a:8.3g} {b:8.3g} {spread([x / y for x, y in pairs])}")
    if args.json:
        args.json.write_text(json.dumps(kept, indent=1))
    for child in children:
        child.end()


if __name__ == "__main__":
    main()

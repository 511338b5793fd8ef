"""What Lineshaft wants to be beside its peers, and whether one run shows it. Told, never a pass or a failure: machines differ."""
from dataclasses import dataclass


@dataclass
class Goal:
    """`subject` is to be at least `factor` times better than `peer` in `key` of the summaries; `sign` 1: more is better, -1: less."""
    subject: str
    what: str
    key: str
    sign: int
    peer: str
    factor: float


def _on_redis(what, key, sign, **factors):
    return [Goal("lineshaft-redis", what, key, sign, peer.replace("_", "-"), factor) for peer, factor in factors.items()]


GOALS = [
    *_on_redis("W1 P={p}, tasks/s", "enqueue_p", 1, asynq=1.3, machinery_redis=2),
    *_on_redis("W2 drain, tasks/s", "drain", 1, bullmq=3, asynq=3, machinery_redis=6),
    *_on_redis("W3 end to end, tasks/s", "e2e", 1, asynq=3, apalis=3, machinery_redis=6),
    # At most half of the processor time is at least twice as good.
    *_on_redis("W3 CPU of all processes", "cpu_per_1000_s", -1, asynq=2),
    *_on_redis("W4 start p50", "start_p50_us", -1, machinery_redis=1),
    *_on_redis("W4 start p99", "start_p99_us", -1, machinery_redis=1),
    *_on_redis("W4 result p50", "result_p50_us", -1, machinery_redis=1 / 0.7),
    *_on_redis("W5 chord", "chord_s", -1, bullmq=1 / 0.3, machinery_redis=1 / 0.05),
]


def table(summaries, producers):
    """Markdown lines, one for each goal of which both sides were measured; none if there is none."""
    rows = []
    for goal in GOALS:
        ours, theirs = (summaries.get(name, {}).get(goal.key) for name in (goal.subject, goal.peer))
        if ours and theirs:
            ratio = ours / theirs if goal.sign > 0 else theirs / ours
            met = "met" if ratio >= goal.factor else "missed"
            rows.append(f"| {goal.what.format(p=producers)} | {goal.subject} beside {goal.peer} | {goal.factor:.2f} | {ratio:.2f} | {met} |")
    head = ["Goals (how many times better; times and processor time count down; one run on a shared machine proves neither):", "",
            "| what | who | goal | ratio | |", "|---|---|--:|--:|---|"]
    return [*head, *rows] if rows else []

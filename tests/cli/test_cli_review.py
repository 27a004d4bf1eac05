"""`danqing review` and `danqing refine` over the studio in memory."""

from __future__ import annotations

from danqing.review.base import find_reviewer
from danqing.spec.refine import Refinement, RefineRound, Scores
from danqing.spec.review import Suggestion


def test_suggestions_as_a_table_and_as_json(danqing, picture):
    told = danqing("review", str(picture), "--brief", "a red apple")
    assert told.code == 0, told.err
    assert told.out.splitlines()[0].split("\t") == ["box", "change to", "strength", "reason"]
    assert "4,4,20,20\ta red apple\t0.60\tit is green" in told.out
    found = danqing("review", str(picture), "--brief", "a red apple", "--json").json
    assert found["suggestions"][0]["prompt"] == "a red apple"
    assert found["reviewer"] == "builtin"


def test_what_cannot_be_reviewed(danqing, picture):
    assert danqing("review", str(picture), "--json").error["field"] == "--brief"
    assert danqing("review", "none.png", "--brief", "x", "--json").code == 2
    wrong = danqing("review", str(picture), "--brief", "x", "--reviewer", "bultin", "--json")
    assert (wrong.code, wrong.error["field"]) == (2, "reviewer")
    missing = danqing("review", str(picture), "--brief", "x", "--reviewer", "qwen", "--json")
    assert missing.error["code"] == "missing_weights"


def test_refining_tells_each_round_and_writes_the_best(danqing, studio, monkeypatch, tmp_path):
    def refine(start, how, *, brief, watch):
        job = studio.submit(start)
        first = studio.job(job.id).records[0]
        reviewer = find_reviewer(how.reviewer).key
        score = Scores(prompt=0.5, aesthetic=0.6)
        state = Refinement(
            id="F",
            brief=start.prompt,
            reviewer=reviewer,
            first=first,
            best=first,
            scores_first=score,
            scores_best=score,
        )
        watch.report(state)
        done = RefineRound(
            number=1,
            suggestion=Suggestion(prompt="a red hat", reason="bare"),
            way="emphasis",
            before=first,
            scores_before=score,
            verdict="no gain",
        )
        state = state.model_copy(update={"rounds": (done,), "state": "done", "note": f"{how.rounds} rounds"})
        watch.report(state)
        return state

    monkeypatch.setattr(studio, "refine", refine, raising=False)
    out = tmp_path / "best.png"
    told = danqing(
        "refine", "a man", "--seed", "5", "--rounds", "2", "-o", str(out), "--export", str(tmp_path / "pairs")
    )
    assert told.code == 0, told.err
    assert out.exists()
    assert "round 1: emphasis of whole: a red hat (bare)" in told.err
    assert "rejected: no gain" in told.err
    assert "0 of 1 rounds accepted: prompt 0.500, aesthetic 0.600; 2 rounds" in told.err
    data = danqing("refine", "a man", "--seed", "5", "-o", str(tmp_path / "again.png"), "--json").json
    assert data["refinement"]["rounds"][0]["way"] == "emphasis"
    assert data["pictures"][0]["seed"] == 5
    assert danqing("refine", "a man", "--count", "2", "--json").error["field"] == "--count"
    assert danqing("refine", "a man", "--rounds", "0").code == 2

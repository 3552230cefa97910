"""What a load will take: forecasts of `postroom simulate`, without a server and with what one has set up."""

import json
import subprocess
from pathlib import Path

import pytest

from postroom import BINARY

pytestmark = [pytest.mark.ours, pytest.mark.needs("cli")]

# One site that takes 600 an hour of each source, and one that takes what it gets.
MIX = """
schema = 1
[[site]]
name = "counts"
share = 3
quota = ["600/h"]
says = "named"
[[site]]
name = "free"
share = 1
sites = 4
unknown = 0.1
"""


def call(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=60, cwd=cwd)


def forecast(tmp_path: Path, *arguments: str) -> dict:
    mix = tmp_path / "mix.toml"
    mix.write_text(MIX)
    done = call("simulate", "--mix", str(mix), "--json", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def hours(seconds: int) -> float:
    return seconds / 3600


def test_a_forecast_needs_no_server_and_leaves_nothing(tmp_path):
    done = call("simulate", "--recipients", "5000", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "google" in done.stdout and "takes longest" in done.stdout and "####" in done.stdout
    assert not list(tmp_path.iterdir())


def test_one_seed_is_one_answer(tmp_path):
    first, again, other = (forecast(tmp_path, "--recipients", "3000", "--seed", seed) for seed in ["7", "7", "8"])
    assert first == again
    assert first["sites"] != other["sites"]


def test_all_recipients_are_in_the_table_and_in_the_curve(tmp_path):
    found = forecast(tmp_path, "--recipients", "3000")
    sites, everything = found["sites"], found["all"]
    for column in ["recipients", "delivered", "bounced", "given_up"]:
        assert sum(site[column] for site in sites) == everything[column]
    for row in [*sites, everything]:
        assert row["recipients"] == row["delivered"] + row["bounced"] + row["given_up"]
    assert everything["recipients"] == 3000
    assert sum(found["hours"]) == everything["delivered"]
    # A quarter goes to those who know a tenth of nobody.
    assert 40 < everything["bounced"] < 110


def test_who_counts_limits_it_and_more_sources_finish_sooner(tmp_path):
    one, four = (forecast(tmp_path, "--recipients", "4000", "--sources", n) for n in ["1", "4"])
    # 3,000 at 600 an hour are five spans; the first is there at once.
    assert 3.5 < hours(one["limit"]["mostly_seconds"]) < 6
    assert one["limit"]["site"] == "counts" and one["limit"]["kept"]["reason"] == "quota"
    assert "counts takes longest" in one["sentence"]
    assert four["limit"]["mostly_seconds"] < one["limit"]["mostly_seconds"] / 2


def test_a_plan_for_new_sources_stretches_a_load_over_days(tmp_path):
    plan = ["--recipients", "1000", "--sources", "2", "--warmup", "50,100,200,400"]
    found = forecast(tmp_path, *plan, "--give-up-after", "5")
    hourly = found["hours"]
    days = [sum(hourly[at:at + 24]) for at in range(0, len(hourly), 24)]
    assert days[:3] == [100, 200, 400] and len(days) == 4
    assert found["limit"]["kept"]["reason"] == "warmup"
    short = forecast(tmp_path, *plan, "--give-up-after", "2")
    assert short["all"]["delivered"] == 300 and "given up after 2 days" in short["sentence"]


def test_a_figure_of_the_operators_counts(tmp_path):
    slow = forecast(tmp_path, "--recipients", "2000", "--figure", "free:connections=1", "--figure", "rate=1/s")
    fast = forecast(tmp_path, "--recipients", "2000")
    of = {name: next(s for s in found["sites"] if s["site"] == "free") for name, found in [("s", slow), ("f", fast)]}
    assert of["s"]["mostly_seconds"] > 3 * of["f"]["mostly_seconds"]


def test_without_sources_it_is_about_what_the_server_has_set_up(make_server):
    server = make_server()

    def ask(*more: str) -> dict:
        return json.loads(server.cli("simulate", "--recipients", "2000", "--json", *more))

    assert ask()["sources"] == ["default"]
    for name in ["one", "two"]:
        server.cli("source", "add", name)
    server.cli("pool", "add", "both", "one", "two:3", "--stream", "marketing")
    server.cli("source", "warmup", "one", "--days", "100,200", "--total")
    server.cli("source", "warmup", "two", "--days", "100,200", "--total")
    server.start()
    running = ask()
    assert running["sources"] == ["one", "two"] and running["hours"][0] == 20
    assert running["limit"]["kept"]["reason"] == "warmup"
    # Other mail leaves by other ways.
    assert ask("--stream", "transactional")["sources"] == ["default"]
    server.cli("queue", "hold", "--source", "one")
    assert ask()["hours"][0] == 10


@pytest.mark.parametrize(("arguments", "code", "said"), [
    (["--recipients", "0"], 2, "1.."),
    (["--recipients", "many"], 2, "many"),
    (["--recipients", "5", "--mix", "nowhere.toml"], 1, "nowhere.toml"),
    (["--recipients", "5", "--warmup", "standard"], 2, "--sources"),
    (["--recipients", "5", "--sources", "2", "--warmup", "50x"], 2, "50x"),
    (["--recipients", "5", "--figure", "speed=9"], 2, "no figure"),
    (["--recipients", "5", "--stream", "spam"], 2, "spam"),
])
def test_what_is_wrong_with_a_question_is_said(tmp_path, arguments, code, said):
    done = call("simulate", *arguments, cwd=tmp_path)
    assert done.returncode == code and said in done.stderr and not done.stdout


def test_a_mix_that_is_wrong_is_named_with_the_reason(tmp_path):
    mix = tmp_path / "mix.toml"
    for text, said in [
        ("schema = 1\n[[site]]\nname = \"a\"\nshare = 1\nquota = [\"5/w\"]\n", "5/w"),
        ("schema = 1\n[[site]]\nname = \"a\"\nshare = 1\nqouta = 5\n", "qouta"),
        ("schema = 1\nsite = []\n", "no site has a share"),
    ]:
        mix.write_text(text)
        done = call("simulate", "--recipients", "5", "--mix", str(mix), cwd=tmp_path)
        assert done.returncode == 1 and said in done.stderr and "mix.toml" in done.stderr

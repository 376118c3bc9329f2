"""What a study would cost: its jobs by a dry run, their times and sizes by a study that ran."""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import yaml

from aeflow.study.cells import PATHS, STEPS

ROOT = Path(__file__).resolve().parents[1]
CHAIN = ["prepare_images", "extract_features", "train_model", "score_images", "evaluate_scores"]
NOTES = """\
seconds, h  CPU time of a job, mean, and of all jobs. {gpu:.1f} h are of rules that ask for a GPU:
            its hours if it is no faster than the CPU of the measurement
GB          files, by the mean of a job
days        with a training on each GPU. More than {enough:.0f} GPUs are no use: the rules of the
            login node take {local:.1f} h one after the other, the longest chain {chain:.2f} h
Not measured: {unknown}."""


def main(arguments: list[str] | None = None) -> None:
    """Print a table of rules and one of GPUs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("overlay", type=Path, help="configuration of the study to plan")
    parser.add_argument("measured", type=Path, help="folder of results of a study that ran")
    args = parser.parse_args(arguments)
    rules = pd.DataFrame({"jobs": planned_jobs(args.overlay)})
    rules = rules.join(measured_jobs(args.measured))
    rules["h"] = rules["jobs"] * rules["seconds"] / 3600
    rules["GB"] = rules["jobs"] * rules["bytes"] / 1e9
    print(table(rules[["jobs", "seconds", "h", "GB"]]), end="\n\n")

    totals = rules[["jobs", "h", "GB"]].sum()
    gpu = rules.loc[rules.index.isin(gpu_rules()), "h"].sum()
    local = rules.loc[rules.index.isin(local_rules()), "h"].sum()
    chain = rules["seconds"].reindex(CHAIN).sum() / 3600
    days = pd.DataFrame({"days": {n: max(gpu / n, chain, local) / 24 for n in (1, 8, 64, 512)}})
    print(f"{totals['jobs']:.0f} jobs, {totals['h']:.1f} h, {totals['GB']:.1f} GB\n")
    print(table(days.rename_axis("GPUs")), end="\n\n")
    facts = {"gpu": gpu, "local": local, "chain": chain, "enough": gpu / max(local, chain)}
    unknown = ", ".join(rules.index[rules["seconds"].isna()]) or "nothing"
    print(NOTES.format(**facts, unknown=unknown))


def planned_jobs(overlay: Path) -> dict[str, int]:
    """Return rule -> number of jobs of a study of which nothing is there yet."""
    command = ["snakemake", "--dry-run", "--forceall", "--configfile", str(overlay)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    jobs = dict(re.findall(r"^(\w+_\w+) +(\d+) +\S", done.stdout, re.MULTILINE))
    return {rule: int(count) for rule, count in jobs.items()}


def measured_jobs(results: Path) -> pd.DataFrame:
    """Return mean CPU `seconds` of a job and mean `bytes` of its files, a row per rule."""
    repository, study = results.resolve().parents[1], results.resolve().name
    rows = {}
    for of_rule in [*repository.glob("results/benchmarks/*"), *results.glob("benchmarks/*")]:
        # A rule of one job has a file there, others a folder of files.
        runs = [of_rule] if of_rule.is_file() else sorted(of_rule.rglob("*.tsv"))
        times = [pd.read_csv(path, sep="\t")["cpu_time"].mean() for path in runs]
        made = STEPS[of_rule.name].makes if of_rule.name in CHAIN else ()
        patterns = [PATHS[name].replace("{study}", study) for name in made]
        files = [file for p in patterns for file in repository.glob(re.sub(r"{\w+}", "*", p))]
        size = sum(file.stat().st_size for file in files)
        rows[of_rule.stem] = {"seconds": pd.Series(times).mean(), "bytes": size / len(times)}
    if "train_model" not in rows:
        sys.exit(f"{results}/benchmarks has no times of trainings: run that study first.")
    return pd.DataFrame.from_dict(rows, orient="index")


def gpu_rules() -> set[str]:
    """Return the rules for which profiles/slurm asks for a GPU."""
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text(encoding="utf-8"))
    return {
        rule for rule, asked in profile["set-resources"].items() if {"gpu", "gres"} & asked.keys()
    }


def local_rules() -> set[str]:
    """Return the rules that the Snakefile keeps on the login node."""
    snakefile = (ROOT / "Snakefile").read_text(encoding="utf-8")
    return set(re.findall(r"\w+", snakefile.partition("localrules:")[2].partition("\n\n")[0]))


def table(frame: pd.DataFrame) -> str:
    # Four digits, but whole numbers in full.
    shown = frame.map(lambda v: "" if pd.isna(v) else f"{v:.0f}" if v > 1000 else f"{v:.4g}")
    return str(shown.to_markdown(tablefmt="simple", disable_numparse=True))


if __name__ == "__main__":
    main()
